import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

/**
 * A `docker` that remembers what it was told, and a `tmux` that does with options, buffers and keys what tmux does. Both
 * are one program, told apart by the name it is called by; `exec` runs its command on this machine, but for those that
 * would do harm here.
 */
const PROGRAM = String.raw`
const fs = require("node:fs"), path = require("node:path"), { spawnSync } = require("node:child_process");
const home = path.dirname(process.argv[1]), args = process.argv.slice(2);
const file = (name) => path.join(home, name);
const read = (name, otherwise) => { try { return JSON.parse(fs.readFileSync(file(name), "utf8")); } catch { return otherwise; } };
const write = (name, value) => fs.writeFileSync(file(name), JSON.stringify(value));
const flag = (name) => { const at = args.indexOf(name); return at < 0 ? undefined : args[at + 1]; };
const log = (name, text) => fs.appendFileSync(file(name), text);

const docker = () => {
  const containers = read("containers.json", {});
  const [command] = args;
  log("calls.log", JSON.stringify(args) + "\n");
  if (read("broken.json", false)) { console.error("Cannot connect to the daemon"); return 1; }
  if (command === "run") {
    write("run.json", { args, env: process.env });
    if (read("refuse.json", false)) { console.error("no such image"); return 125; }
    const labels = args.flatMap((arg, i) => (args[i - 1] === "--label" ? [arg] : [])).join(",");
    const id = "c".repeat(12) + Object.keys(containers).length;
    containers[id] = { ID: id, Status: "Up Less than a second", Labels: labels };
    write("containers.json", containers);
    console.log(id);
  } else if (command === "ps") {
    if (args.includes("-a")) for (const c of Object.values(containers)) console.log(JSON.stringify(c));
  } else if (command === "stop") {
    containers[args.at(-1)].Status = "Exited (143) 1 second ago";
    write("containers.json", containers);
  } else if (command === "rm") {
    delete containers[args.at(-1)];
    write("containers.json", containers);
  } else if (command === "logs") console.log("from the container");
  else if (command === "exec") {
    const at = args.findIndex((arg) => containers[arg]);
    const inside = args.slice(at + 1);
    // Inside a container these touch the container; here they would touch this machine.
    if (inside[0] === "kill") return 0;
    if (inside.join(" ").includes("scion-token")) { write("token.json", fs.readFileSync(0, "utf8")); return 0; }
    const env = { ...process.env, PATH: home + ":" + process.env.PATH };
    const done = spawnSync(inside[0], inside.slice(1), { stdio: ["inherit", "pipe", "pipe"], env });
    if (done.error) { console.error("executable file not found"); return 127; }
    process.stdout.write(done.stdout); process.stderr.write(done.stderr);
    return done.status;
  }
  return 0;
};

const tmux = (words) => {
  const options = read("options.json", {});
  const after = (name) => words[words.indexOf(name) + 1];
  const [command] = words;
  if (command === "has-session") return 0;
  if (command === "show-options") { const v = options[words.at(-1)]; if (v) console.log(v); }
  else if (command === "set-option") {
    if (words.includes("-u")) delete options[words.at(-1)]; else options[words.at(-2)] = words.at(-1);
    write("options.json", options);
  } else if (command === "load-buffer") write("buffer.json", fs.readFileSync(0, "utf8"));
  else if (command === "paste-buffer") log("typed.log", JSON.stringify((words.includes("-p") ? "paste:" : "raw:") + read("buffer.json", "")) + "\n");
  else if (command === "send-keys") log("typed.log", JSON.stringify("key:" + words.at(-1)) + "\n");
  else if (command === "display-message") console.log("agent");
  else if (command === "if-shell") {
    const name = /^#\{(@\w+)\}$/.exec(words[4])?.[1];
    if (!(name && options[name])) for (const part of words[6].split(" ; ")) tmux(part.split(" "));
  } else if (command === "capture-pane") console.log("the screen");
  return 0;
};

process.exitCode = path.basename(process.argv[1]) === "tmux" ? tmux(args) : docker();
`;

export interface FakeDocker {
  /** To be first on PATH. */
  readonly directory: string;
  /** What the last `run` was called with. */
  lastRun(): Promise<{ args: string[]; env: Record<string, string> }>;
  /** What was typed into the agent, in order: `paste:text`, `raw:text`, `key:name`. */
  typed(): Promise<string[]>;
  /** The token that was last written inside. */
  token(): Promise<string>;
  calls(): Promise<string[][]>;
  /** Every call fails from now on, or works again. */
  breakDown(broken: boolean): Promise<void>;
  refuseRuns(refused: boolean): Promise<void>;
}

export const makeFakeDocker = async (directory: string): Promise<FakeDocker> => {
  await mkdir(directory, { recursive: true });
  for (const name of ["docker", "podman", "tmux"]) {
    await writeFile(join(directory, name), `#!${process.execPath}\n${PROGRAM}`);
    await chmod(join(directory, name), 0o755);
  }
  const lines = async (name: string) => {
    const text = await readFile(join(directory, name), "utf8").catch(() => "");
    return text.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line)]));
  };
  return {
    directory,
    lastRun: async () => JSON.parse(await readFile(join(directory, "run.json"), "utf8")),
    token: async () => JSON.parse(await readFile(join(directory, "token.json"), "utf8")),
    typed: () => lines("typed.log"),
    calls: () => lines("calls.log"),
    breakDown: (broken) => writeFile(join(directory, "broken.json"), JSON.stringify(broken)),
    refuseRuns: (refused) => writeFile(join(directory, "refuse.json"), JSON.stringify(refused)),
  };
};
