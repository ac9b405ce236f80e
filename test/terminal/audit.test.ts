import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { Scene, TerminalClient } from "@rootstock/testkit";
import { agentOn, refusal } from "./stage.ts";

/** Who has a terminal is in the audit log, and nobody opens them without end. */

let scene: Scene;
beforeEach(async () => {
  scene = await Scene.create();
});
afterEach(() => scene.end());

test("a terminal that was opened, at any replica, is in the audit log with who opened it and from where", async () => {
  const [owner, entry] = [await scene.replica(), await scene.replica()];
  const { agent } = await agentOn(scene, owner, entry);
  for (const replica of [owner, entry]) {
    const client = await TerminalClient.attach(replica, agent);
    scene.onEnd(async () => client.cut());
  }
  expect(await refusal(owner, agent, { token: "scion_dev_wrong" })).toMatchObject({ status: 401 });
  const rows = await scene.database.query(
    `select action, actor_kind, actor_email, credential, address, target_type, target_id::text, details
       from audit_log where action = 'terminal_opened'`,
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
  expect(rows).toEqual([opened, opened]);
});
