import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { createTestStore, type TestStore } from "@rootstock/testkit";
import { type StoredPolicy, userAccessRules, userAccessStanding } from "./accessFacts.ts";
import { bindPolicy, changePolicy, insertPolicy, type PolicyRow } from "./policies.ts";

let store: TestStore;

beforeAll(async () => {
  store = await createTestStore();
});
afterAll(() => store.drop());

const deciding = (row: PolicyRow | undefined): StoredPolicy | undefined =>
  row && {
    id: row.id,
    name: row.name,
    scopeType: row.scope_type,
    scopeId: row.scope_id,
    resourceType: row.resource_type,
    resourceId: row.resource_id,
    actions: row.actions,
    effect: row.effect,
    priority: row.priority,
    conditions: row.conditions,
    delegatedFrom: row.delegated_from,
    delegatedFromGroup: row.delegated_from_group,
  };

test("a policy decides as it stands, whatever is in its texts, also after each change", async () => {
  const [userId, id, resource] = [systemRandom.uuid(), systemRandom.uuid(), systemRandom.uuid()];
  await store.query("insert into users (id, email) values ($1, 'ann@example.org')", [userId]);
  const made = await insertPolicy(store.db, {
    id,
    name: `"quoted", [listed] \\ and\nbroken, \u{1f331}`,
    scope_type: "hub",
    actions: ["read", 'of "all"', ""],
    effect: "allow",
  });
  await bindPolicy(store.db, { policyId: id, principalType: "user", principalId: userId, createdBy: null });
  const read = async () => {
    const { standing } = await userAccessRules(store.db, userId);
    expect(await userAccessStanding(store.db, userId)).toEqual(standing);
    return { policy: standing.policies.find((p) => p.id === id), version: standing.version };
  };
  const first = await read();
  expect(first.policy).toEqual(deciding(made));
  const seen = [first.version];
  const changes = [
    { name: "plain" },
    { actions: [] },
    { effect: "deny" },
    { priority: -7 },
    { resource_type: "agent", resource_id: resource },
    { conditions: JSON.stringify({ delegatedFrom: { principalType: "user", principalId: userId.toUpperCase() } }) },
    { conditions: JSON.stringify({ delegatedFromGroup: resource }) },
    { conditions: JSON.stringify({ labels: { "a,b": "]" }, validUntil: "2030-01-01T00:00:00Z" }) },
  ] as const;
  for (const change of changes) {
    const changed = await changePolicy(store.db, id, change);
    const { policy, version } = await read();
    expect(policy).toEqual(deciding(changed));
    seen.push(version);
  }
  expect(new Set(seen).size).toBe(changes.length + 1);
});
