import { createHash } from "node:crypto";
import type { AgentPlace, LaunchSpec } from "../runtime.ts";

/** The user inside the image that the agent runs as, and its home (spec/06 5.1). */
export const CONTAINER_USER = "scion";
export const CONTAINER_HOME = "/home/scion";
export const CONTAINER_WORKSPACE = "/workspace";
/** The tmux session that holds the agent; its window `agent` is the harness. */
export const TMUX_SESSION = "scion";
/** Where the tool inside looks for the harness's exit code: tmux does not pass it on. */
const EXIT_CODE_FILE = "/tmp/scion-harness-exit-code";
/** Names the agent's container, whatever other programs run on this machine. */
export const AGENT_LABEL = "rootstock.agent";

/** The value of `AGENT_LABEL`: two state directories on one machine may know the same agent. */
export const agentLabelValue = (place: AgentPlace): string =>
  createHash("sha256").update(place.directory).digest("hex").slice(0, 24);

const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/**
 * The command line that the image's entry point runs: the harness in a window of a tmux session, a second window with a
 * shell, and an attached client so that it lasts as long as the session.
 */
export const tmuxCommand = (command: readonly string[]): string => {
  const harness = `${command.map(quote).join(" ")}; echo $? > ${EXIT_CODE_FILE}`;
  return [
    `tmux new-session -d -s ${TMUX_SESSION} -n agent ${quote(`sh -c ${quote(harness)}`)}`,
    "set-option -g window-size latest",
    `new-window -t ${TMUX_SESSION} -n shell`,
    `select-window -t ${TMUX_SESSION}:agent`,
    `attach-session -t ${TMUX_SESSION}`,
  ].join(" \\; ");
};

/** Variables that would change what the container tool itself does. */
const RESERVED =
  /^(PATH|HOME|USER|TMPDIR|TERM|LD_.*|XDG_.*|DOCKER_.*|CONTAINERS?_.*|PODMAN_.*|BUILDAH_.*|GODEBUG|HTTPS?_PROXY|NO_PROXY|https?_proxy|no_proxy|SSH_.*|DBUS_.*)$/;

/**
 * How variables get into the container without showing on a command line, where everybody on the machine can read them: by
 * name, the tool takes the value from its own environment. Those that mean something to the tool are given by value.
 */
export const envArgs = (env: Readonly<Record<string, string>>): { args: string[]; toolEnv: Record<string, string> } => {
  const args: string[] = [];
  const toolEnv: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (name === "" || name.includes("=") || name.includes("\u0000") || value.includes("\u0000")) continue;
    if (RESERVED.test(name)) args.push("-e", `${name}=${value}`);
    else {
      args.push("-e", name);
      toolEnv[name] = value;
    }
  }
  return { args, toolEnv };
};

export interface RunOptions {
  readonly command: "docker" | "podman";
  readonly image: string;
  readonly network: string | undefined;
  readonly uid: number;
  readonly gid: number;
}

const containerName = (spec: LaunchSpec): string =>
  `${spec.projectName}--${spec.place.slug}`.replace(/[^A-Za-z0-9_.-]/g, "-").replace(/^[^A-Za-z0-9]+/, "");

/** Where a file's target is inside the container. */
export const containerPath = (target: string): string =>
  target.startsWith("~/") ? `${CONTAINER_HOME}/${target.slice(2)}` : target;

/** Arguments of `docker run` or `podman run` for an agent, and the environment to call it with. */
export const runArgs = (spec: LaunchSpec, options: RunOptions): { args: string[]; toolEnv: Record<string, string> } => {
  const { place } = spec;
  const rootless = options.command === "podman" && options.uid !== 0;
  const { args: variables, toolEnv } = envArgs({
    ...spec.env,
    SCION_HOST_UID: String(options.uid),
    SCION_HOST_GID: String(options.gid),
    // The user namespace maps this user to the image's own; the tool inside then changes to it at once.
    ...(rootless && { SCION_KEEPID_UID: "1000" }),
    ...(options.network === "host" && { SCION_NETWORK_MODE: "host" }),
  });
  const mounts = [
    `${place.home}:${CONTAINER_HOME}`,
    `${place.workspace}:${CONTAINER_WORKSPACE}`,
    ...spec.files.map((file) => `${file.source}:${containerPath(file.target)}:ro`),
  ];
  const labels = { ...spec.labels, [AGENT_LABEL]: agentLabelValue(place) };
  const interceptsMetadata = ["block", "assign"].includes(spec.env.SCION_METADATA_MODE ?? "");
  const args = [
    "run",
    "-t",
    "-d",
    "-i",
    "--name",
    containerName(spec),
    ...(rootless ? ["--userns=keep-id:uid=1000,gid=1000"] : []),
    ...(options.network ? ["--network", options.network] : []),
    ...(interceptsMetadata && options.network !== "host" ? ["--cap-add", "NET_ADMIN"] : []),
    "--workdir",
    CONTAINER_WORKSPACE,
    ...variables,
    ...mounts.flatMap((mount) => ["-v", mount]),
    ...Object.entries(labels).flatMap(([name, value]) => ["--label", `${name}=${value}`]),
    options.image,
    "sh",
    "-c",
    tmuxCommand(spec.command),
  ];
  return { args, toolEnv };
};
