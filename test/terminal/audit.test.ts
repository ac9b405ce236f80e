import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { api, Scene, TerminalClient } from "@rootstock/testkit";
import { agentOn, refusal } from "./stage.ts";

/** Who reaches into a container is in the audit log, and nobody opens them without end. */

let scene: Scene;
beforeEach(async () => {
  scene = await Scene.create();
});
afterEach(() => scene.end());

test("a terminal that was opened and a command that was run, at any replica, are in the audit log with who did it and from where", async () => {
  const [owner, entry] = [await scene.replica(), await scene.replica()];
  const { agent } = await agentOn(scene, owner, entry);
  for (const replica of [owner, entry]) {
    const client = await TerminalClient.attach(replica, agent);
    scene.onEnd(async () => client.cut());
  }
  expect(await refusal(owner, agent, { token: "scion_dev_wrong" })).toMatchObject({ status: 401 });
  // A command in the container is as much as a terminal.
  for (const replica of [owner, entry])
    await api(replica, "POST", `/api/v1/agents/${agent}/exec`, { command: ["sh", "-c", "echo hush-hush"] });
  const rows = await scene.database.query(
    `select action, actor_kind, actor_email, credential, address, target_type, target_id::text, details
       from audit_log where action in ('terminal_opened', 'command_run') order by id`,
  );
  const opened = {
    action: "terminal_opened",
    actor_kind: "user",
    actor_email: "dev@localhost",
    credential: "development_token",
    address: "127.0.0.1",
    target_type: "agent",
    target_id: agent,
    details: { readonly: false },
  };
  const run = { ...opened, action: "command_run", details: {} };
  expect(rows).toEqual([opened, opened, run, run]);
});
