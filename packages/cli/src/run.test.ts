import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "@jest/globals";
import { heard } from "@rootstock/testkit";
import { EXIT } from "./exitCodes.ts";
import { run } from "./run.ts";

interface Call {
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
}
type Route = (call: Call) => readonly [status: number, body?: unknown] | undefined;

let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
  server = undefined;
});

/** A hub that answers what `route` says, 404 otherwise, and keeps the calls. */
const hub = async (route: Route) => {
  const calls: Call[] = [];
  server = createServer(async (req: IncomingMessage, res: ServerResponse) => {
    let text = "";
    for await (const chunk of req) text += chunk;
    const call = { method: req.method ?? "", path: req.url ?? "", body: text ? JSON.parse(text) : undefined };
    calls.push(call);
    const [status, body] = route(call) ?? [404, { error: { code: "not_found", message: "nothing here" } }];
    res.writeHead(status, { "content-type": "application/json" }).end(body === undefined ? "" : JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server?.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const rootstock = async (args: readonly string[], env: Record<string, string> = {}) => {
    const out: string[] = [];
    const err: string[] = [];
    const code = await run(
      args,
      { ROOTSTOCK_HUB_URL: `http://127.0.0.1:${port}`, SCION_DEV_TOKEN: "t", ROOTSTOCK_DATA: "/none", ...env },
      { out: (line) => out.push(line), err: heard(err) },
    );
    return { code, out: out.join("\n"), err: err.join("\n") };
  };
  return { calls, rootstock };
};

const P = { id: "11111111-2222-4333-8444-555555555555", name: "default", slug: "default" };
const AGENTS = `/api/v1/projects/${P.id}/agents`;
const agent = { id: "a1", slug: "demo", name: "demo", phase: "running", runtimeBrokerName: "here", updated: "now" };

const withProject =
  (route: Route): Route =>
  (call) =>
    call.path.startsWith("/api/v1/projects?slug=default") ? [200, { projects: [P] }] : route(call);

describe("trace", () => {
  const id = "0e0e0e0e-0000-4000-8000-000000000001";
  const trace = { id, kind: "dispatch", op: "stop", state: "done", attempts: 1, maxAttempts: 3, hops: [], next: [] };

  test("finds out whether the id is a message's or an operation's, in whatever form it is given", async () => {
    const { calls, rootstock } = await hub((call) =>
      call.path === `/api/v1/dispatches/${id}` ? [200, trace] : undefined,
    );
    const result = await rootstock(["trace", id.toUpperCase()]);
    expect(result.code).toBe(EXIT.ok);
    expect(result.out).toContain(`stop ${id}: done, attempts 1 of 3`);
    expect(calls.map((c) => c.path)).toEqual([`/api/v1/messages/${id}/trace`, `/api/v1/dispatches/${id}`]);
    expect(JSON.parse((await rootstock(["trace", id, "--json"])).out)).toEqual(trace);
  });

  test("says so when it is neither", async () => {
    const { rootstock } = await hub(() => undefined);
    expect(await rootstock(["trace", id])).toMatchObject({
      code: EXIT.failed,
      err: `rootstock: there is no message and no operation ${id} that you may see`,
    });
  });

  test("another refusal is told as it is", async () => {
    const { rootstock } = await hub(() => [401, { error: { code: "unauthorized", message: "who are you" } }]);
    expect((await rootstock(["trace", id])).err).toContain("who are you");
  });
});

describe("agent start", () => {
  test("makes the default project when there is none", async () => {
    const { calls, rootstock } = await hub((call) => {
      if (call.path.startsWith("/api/v1/projects?")) return [200, { projects: [] }];
      if (call.path === "/api/v1/projects") return [201, P];
      return call.path === AGENTS ? [201, { agent }] : undefined;
    });
    expect(await rootstock(["agent", "start", "demo", "say hi"])).toEqual({
      code: EXIT.ok,
      out: "demo: running on here",
      err: "",
    });
    expect(calls.at(-1)?.body).toEqual({ name: "demo", task: "say hi", gatherEnv: true, resume: true });
  });

  test("hands in what the harness needs from this environment", async () => {
    const envGather = { agentId: "a1", required: ["KEY"], hubHas: null, needs: ["KEY"] };
    const { calls, rootstock } = await hub(
      withProject((call) => {
        if (call.path === AGENTS) return [202, { agent, envGather }];
        return call.path === `${AGENTS}/a1/env` ? [200, { agent }] : undefined;
      }),
    );
    expect((await rootstock(["agent", "start", "demo"], { KEY: "v", OTHER: "private" })).code).toBe(EXIT.ok);
    expect(calls.at(-1)).toMatchObject({ method: "POST", body: { env: { KEY: "v" } } });
  });

  test("names what is missing and removes the half-made agent", async () => {
    const envGather = { agentId: "a1", required: ["KEY"], hubHas: null, needs: ["KEY"] };
    const { calls, rootstock } = await hub(
      withProject((call) => {
        if (call.path === AGENTS) return [202, { agent, envGather }];
        return call.method === "DELETE" ? [204] : undefined;
      }),
    );
    const result = await rootstock(["agent", "start", "demo"]);
    expect(result).toMatchObject({ code: EXIT.failed, err: expect.stringContaining("KEY") });
    expect(calls.at(-1)).toMatchObject({ method: "DELETE", path: `${AGENTS}/a1?removeBranch=false&force=true` });
  });
});

test("agent start never removes an agent that was there before", async () => {
  const envGather = { agentId: "a1", required: ["KEY"], hubHas: null, needs: ["KEY"] };
  const { calls, rootstock } = await hub(
    withProject((call) => {
      if (call.path === `${AGENTS}/my-demo`) return [200, { ...agent, phase: "stopped" }];
      return call.path === AGENTS ? [202, { agent, envGather }] : undefined;
    }),
  );
  expect((await rootstock(["agent", "start", "My Demo"])).code).toBe(EXIT.failed);
  expect(calls.map((c) => c.method)).not.toContain("DELETE");
});

test("agent list follows every page", async () => {
  const { rootstock } = await hub(
    withProject((call) =>
      call.path.includes("cursor=c2")
        ? [200, { agents: [{ ...agent, slug: "second", activity: "working" }] }]
        : [200, { agents: [agent], nextCursor: "c2" }],
    ),
  );
  const { out } = await rootstock(["agent", "list"]);
  expect(out.split("\n")).toEqual([
    "NAME    PHASE              HARNESS  RUNTIME BROKER  UPDATED",
    "demo    running                     here            now",
    "second  running (working)           here            now",
  ]);
});

test("agent message says what has become of the message", async () => {
  const { calls, rootstock } = await hub(
    withProject((call) =>
      call.path === `${AGENTS}/demo/message` ? [202, { message_id: "m1", status: "pending" }] : undefined,
    ),
  );
  const result = await rootstock(["agent", "message", "--queue", "demo", "hello", "you"]);
  expect(result).toMatchObject({ code: EXIT.ok, out: "pending (message m1)" });
  expect(calls.at(-1)?.body).toEqual({ message: "hello you", queue: true });
});

test("agent logs prints the text, stop prints the phase", async () => {
  const { rootstock } = await hub(
    withProject((call) => {
      if (call.path === `${AGENTS}/demo/logs?tail=5`) return [200, { logs: "one\ntwo\n" }];
      return call.path === `${AGENTS}/demo/stop` ? [200, { ...agent, phase: "stopped" }] : undefined;
    }),
  );
  expect((await rootstock(["agent", "logs", "demo", "--tail", "5"])).out).toBe("one\ntwo");
  expect((await rootstock(["agent", "stop", "demo"])).out).toBe("demo: stopped");
});

describe("exit codes", () => {
  test("a refusal of the hub is shown with its code", async () => {
    const { rootstock } = await hub(() => [401, { error: { code: "unauthorized", message: "who are you" } }]);
    const result = await rootstock(["agent", "list"]);
    expect(result).toEqual({ code: EXIT.failed, out: "", err: expect.any(String) });
    expect(result.err.split("\n")).toEqual([
      "rootstock: who are you (unauthorized, status 401)",
      'rootstock: "rootstock login" logs in anew',
    ]);
  });

  test("wrong usage is 2 and calls nobody", async () => {
    const { calls, rootstock } = await hub(() => undefined);
    for (const args of [
      ["agent", "start"],
      ["agent", "logs", "x", "--tail", "-1"],
      ["agent", "list", "--nope"],
      ["trace"],
      ["trace", "no-uuid"],
      ["nope"],
    ]) {
      expect((await rootstock(args)).code).toBe(EXIT.usage);
    }
    expect((await rootstock(["agent", "list"], { ROOTSTOCK_TYPO: "1" })).err).toContain("ROOTSTOCK_TYPO");
    expect(calls).toEqual([]);
  });

  test("help is 0 for every command and names a variable for every setting", async () => {
    const { rootstock } = await hub(() => undefined);
    const commands = [
      "start",
      "replica",
      "migrate",
      "secrets rewrap",
      "runtime-broker",
      "agent start",
      "runtime-broker join-token",
      "trace",
      "users list",
      "users role",
      "groups role",
      "policies bind",
      "access explain",
      "audit list",
    ];
    for (const command of commands) {
      const { code, out } = await rootstock([...command.split(" "), "--help"]);
      expect(code).toBe(EXIT.ok);
      expect(out).toMatch(/\(env:\s/);
      expect(out).toContain("Exit codes:");
    }
  });
});
