import { expect, test } from "@jest/globals";
import { deliveredMessage, deliveryText } from "./deliveryText.ts";

const text = (message: unknown) => deliveryText(deliveredMessage.parse(message));

test("a message is wrapped with the fields that it has, and no others", () => {
  const wrapped = text({
    version: 1,
    timestamp: "2026-11-21T02:20:48Z",
    sender: "user:Development User",
    recipient: "agent:a1",
    recipient_id: "f64fd5c3-da9d-4074-b29b-0331196b9da6",
    msg: 'say "hi"\nplease',
    type: "instruction",
    broadcasted: true,
    urgent: false,
    attachments: null,
    metadata: { group_id: "x" },
  });
  const [, json = ""] = /---BEGIN SCION MESSAGE---\n([\s\S]*)\n---END SCION MESSAGE---$/.exec(wrapped) ?? [];
  expect(JSON.parse(json)).toEqual({
    timestamp: "2026-11-21T02:20:48Z",
    sender: "user:Development User",
    msg: 'say "hi"\nplease',
    type: "instruction",
    broadcasted: true,
  });
});

test("plain and raw messages are their text, an empty one is nothing", () => {
  expect(text({ msg: "as it is", plain: true })).toBe("as it is");
  expect(text({ msg: "\u001b[A", raw: true })).toBe("\u001b[A");
  expect(text({ msg: "" })).toBe("");
  expect(text({})).toBe("");
});
