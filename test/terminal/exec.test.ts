import { describe, expect, test } from "@jest/globals";
import { api } from "@rootstock/testkit";
import { Stages, WAYS } from "./stage.ts";

/** Commands in an agent's container, from any replica (spec/02 2.10). */

const stages = new Stages();

describe.each(WAYS)("through the %s replica", (where) => {
  test("what waits for its turn at a serial runtime broker outlives the socket that it waits for; what was sent may have run", async () => {
    const s = await stages.stage({ like: "unmodified" });
    const exec = (name: string) =>
      api(s[where], "POST", `/api/v1/agents/${s.agent}/exec`, { command: ["echo", name] }).then(({ status }) => status);
    s.runtimeBroker.holdAnswers();
    const isExec = (request: { readonly path: string }) => request.path.endsWith("/exec");
    const arrived = s.runtimeBroker.onRequest.next(isExec);
    const sent = exec("sent");
    await arrived;
    const waiting = [exec("waiting"), exec("waiting, too")];
    // Both are in line by the time a later call is answered.
    for (let n = 0; n < 3; n += 1) await api(s[where], "GET", `/api/v1/agents/${s.agent}`);
    const again = s.runtimeBroker.onSession.next();
    s.runtimeBroker.cut();
    await again;
    s.runtimeBroker.releaseAnswers();
    expect(await Promise.all(waiting)).toEqual([200, 200]);
    expect(await sent).toBe(502);
    expect(s.runtimeBroker.received.filter(isExec)).toHaveLength(3);
  });
});
