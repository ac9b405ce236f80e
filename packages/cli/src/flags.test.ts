import { describe, expect, test } from "@jest/globals";
import { HUB_VARIABLES } from "@rootstock/hub";
import { RUNTIME_BROKER_ENV } from "@rootstock/runtime-broker";
import { Command } from "commander";
import { UsageError } from "./exitCodes.ts";
import { addConfiguration, loadSettings, type Setting, settingsEnv } from "./flags.ts";
import {
  AGENT_SETTINGS,
  MIGRATE_SETTINGS,
  REPLICA_SETTINGS,
  RUNTIME_BROKER_SETTINGS,
  START_SETTINGS,
} from "./settings.ts";

const SETTINGS: readonly Setting[] = [
  { flag: "--port <port>", env: "PORT", description: "port" },
  { flag: "--open", env: "ROOTSTOCK_OPEN", description: "switch" },
  { flag: "--no-migrate", env: "ROOTSTOCK_MIGRATE", description: "negated switch", switchValue: "0" },
];
const KNOWN = new Set(SETTINGS.map((s) => s.env));

const read = (args: string[], env: Record<string, string> = {}) => {
  const command = addConfiguration(new Command("x"), SETTINGS).action(() => {});
  command.parse(args, { from: "user" });
  return settingsEnv(command, SETTINGS, env, KNOWN);
};

describe("settings", () => {
  test("a flag wins over its variable, a variable stands alone", () => {
    expect(read(["--port", "1"], { PORT: "2" }).env.PORT).toBe("1");
    expect(read([], { PORT: "2" }).env.PORT).toBe("2");
  });

  test("switches that are not given leave their variable alone", () => {
    expect(read([], { ROOTSTOCK_OPEN: "0" }).env).toEqual({ ROOTSTOCK_OPEN: "0" });
    expect(read(["--open", "--no-migrate"]).env).toMatchObject({ ROOTSTOCK_OPEN: "1", ROOTSTOCK_MIGRATE: "0" });
  });

  test("all problems come at once: flags, arguments, names, values", () => {
    const merged = read(["--prot", "1", "--foo=2", "extra"], { ROOTSTOCK_POOLSIZE: "3", OTHER: "x" });
    const load = () => {
      throw new Error("PORT: too big\n  - HOST: empty");
    };
    let err: unknown;
    try {
      loadSettings(merged, load);
    } catch (e) {
      err = e;
    }
    expect(err).toBeInstanceOf(UsageError);
    expect(String(err).split("\n- ")).toEqual([
      expect.stringContaining("unknown option --prot"),
      "unknown option --foo",
      "unexpected argument extra",
      "unknown variable ROOTSTOCK_POOLSIZE",
      "PORT: too big",
      "HOST: empty",
    ]);
  });

  test("an error that carries its problems is not read by lines", () => {
    const listed = Object.assign(new Error("heading:\n- a\n- b"), { problems: ["a", "b"] });
    expect(() =>
      loadSettings(read([]), () => {
        throw listed;
      }),
    ).toThrow(new UsageError(["a", "b"]));
  });
});

describe("the lists of settings", () => {
  const names = (settings: readonly Setting[]) => settings.map((s) => s.env).sort();

  test("offer a flag for every variable of a replica", () => {
    expect(names(REPLICA_SETTINGS)).toEqual(Object.keys(HUB_VARIABLES).sort());
  });

  test("offer a flag for every variable of a runtime broker", () => {
    const read = Object.values(RUNTIME_BROKER_ENV).map(([first]) => first);
    expect(names(RUNTIME_BROKER_SETTINGS)).toEqual([...read, "ROOTSTOCK_RUNTIME_BROKER_REGISTER"].sort());
  });

  test("give every setting its own flag", () => {
    for (const settings of [
      START_SETTINGS,
      REPLICA_SETTINGS,
      MIGRATE_SETTINGS,
      RUNTIME_BROKER_SETTINGS,
      AGENT_SETTINGS,
    ]) {
      const flags = settings.map((s) => s.flag.split(" ", 1)[0]);
      expect(new Set(flags).size).toBe(flags.length);
    }
  });
});
