import { accepted, type Breach, factsOf, groupBy, seconds } from "../breach.ts";
import type { FactOf, Round } from "../history.ts";

/** Invariants 1, 3 and 4: what became of each message. */

interface Sent {
  readonly asked: FactOf<"asked">;
  readonly answered: FactOf<"answered"> | undefined;
}

const sentMessages = ({ facts }: Round): Sent[] => {
  const answers = new Map(factsOf(facts, "answered").map((f) => [`${f.call} ${f.agent}`, f]));
  return factsOf(facts, "asked").map((asked) => ({ asked, answered: answers.get(`${asked.call} ${asked.agent}`) }));
};

const first = <T extends { readonly at: number }>(facts: readonly T[] | undefined): T | undefined =>
  facts?.reduce((a, b) => (b.at < a.at ? b : a));

/** Accepted means delivered in the end; answered 200 means delivered before the answer; refused means never. */
export const checkLost = (round: Round): Breach[] => {
  const deliveries = groupBy(factsOf(round.facts, "delivered"), (f) => `${f.agent} ${f.text}`);
  const rows = new Map(round.rest.messages.map((m) => [m.id, m]));
  const breaches: Breach[] = [];
  for (const { asked, answered } of sentMessages(round)) {
    if (!answered || answered.status === 0) continue;
    const delivered = first(deliveries.get(`${asked.agent} ${asked.text}`));
    const about = `${asked.text} (${answered.messageId ?? "no id"}) answered ${answered.status} at ${seconds(answered.at)}`;
    const state = rows.get(answered.messageId ?? "")?.state ?? "missing";
    // It can never pass an unmodified runtime broker, which nobody knows when it is accepted for an agent that is stopped.
    if (asked.oversize && state === "failed" && !delivered) continue;
    if (accepted(answered.status)) {
      if (!delivered) breaches.push({ rule: "lost", what: `${about}, its row ${state}: never delivered to the agent` });
      else if (answered.status === 200 && delivered.at > answered.at)
        breaches.push({
          rule: "acknowledged before delivery",
          what: `${about}, delivered at ${seconds(delivered.at)}`,
        });
    } else if (delivered && delivered.at > answered.at)
      breaches.push({ rule: "failed, and ran later", what: `${about}, delivered at ${seconds(delivered.at)}` });
  }
  const arrived = new Set(factsOf(round.facts, "delivered").map((f) => f.messageId));
  const oversize = new Set(factsOf(round.facts, "asked").flatMap((f) => (f.oversize ? [f.text] : [])));
  const told = new Set(breaches.map((b) => b.what.split(" ", 1)[0]));
  for (const row of round.rest.messages) {
    // Also of a call whose answer nobody has heard: what is stored was accepted.
    if (row.state === "failed" && !oversize.has(row.text) && !told.has(row.text))
      breaches.push({
        rule: "lost",
        what: `${row.text} (${row.id}) was stored, and given up: ${row.error ?? "no reason"}`,
      });
    if (row.state === "delivered" && !arrived.has(row.id))
      breaches.push({ rule: "lost", what: `${row.text} (${row.id}) counts as delivered and never was` });
    if (row.state === "pending" || row.state === "delivering")
      breaches.push({ rule: "not at rest", what: `${row.text} (${row.id}) is still ${row.state}` });
  }
  return breaches;
};

/** What was acknowledged has to be settled within this time, in milliseconds, unless something stands in the way. */
const SETTLED_WITHIN_MS = 4_000;
/** So long after its end a fault may still show: leases and grace times. */
const AFTERMATH_MS = 8_000;

/**
 * Once to the agent where the runtime broker remembers; twice over the tunnel only around a fault, with the same id, and
 * never over one socket.
 */
export const checkDuplicated = (round: Round, remembers: (runtimeBroker: string) => boolean): Breach[] => {
  const breaches: Breach[] = [];
  for (const [text, facts] of groupBy(factsOf(round.facts, "received"), (f) => f.text)) {
    const ids = new Set(facts.map((f) => f.messageId));
    if (ids.size > 1)
      breaches.push({ rule: "duplicated", what: `${text} went out under ${ids.size} ids: ${[...ids]}` });
  }
  const deliveries = groupBy(factsOf(round.facts, "delivered"), (f) => f.messageId);
  for (const [id, facts] of deliveries) {
    const [once] = facts;
    if (once && facts.length > 1 && remembers(once.runtimeBroker))
      breaches.push({ rule: "duplicated", what: `${once.text} (${id}) reached the agent ${facts.length} times` });
  }
  const faults = factsOf(round.facts, "fault");
  for (const [id, receipts] of groupBy(factsOf(round.facts, "received"), (f) => f.messageId)) {
    for (const [i, again] of receipts.entries()) {
      const before = receipts[i - 1];
      if (!before) continue;
      const deliveredAt = first(deliveries.get(id)?.filter((d) => d.at >= before.at))?.at ?? again.at;
      const explains = (f: FactOf<"fault">): boolean =>
        strikes(f, before) &&
        f.at <= again.at &&
        f.until + AFTERMATH_MS >= before.at &&
        f.at <= deliveredAt + SETTLED_WITHIN_MS;
      const same = before.session === again.session;
      if (!same && faults.some(explains)) continue;
      const how = same ? "twice over one socket" : "again over another socket";
      breaches.push({
        rule: "duplicated",
        what: `${again.text} (${id}) was sent ${how} at ${seconds(before.at)} and ${seconds(again.at)}, with no fault between sending and settling`,
      });
    }
  }
  return breaches;
};

/** Faults that are no reason to send anything again: a hint that is not heard, a wrong time of day. */
const HARMLESS: ReadonlySet<string> = new Set(["deafen", "skew clock"]);

const strikes = (fault: FactOf<"fault">, receipt: FactOf<"received">): boolean =>
  !HARMLESS.has(fault.what) &&
  (fault.replica === undefined || fault.replica === receipt.replica) &&
  (fault.runtimeBroker === undefined || fault.runtimeBroker === receipt.runtimeBroker);

/** Per agent: what was answered before another was sent arrives before it. */
export const checkOrder = (round: Round): Breach[] => {
  const sent = new Map(sentMessages(round).map((s) => [s.asked.text, s]));
  const breaches: Breach[] = [];
  for (const [agent, facts] of groupBy(factsOf(round.facts, "delivered"), (f) => f.agent)) {
    const seen = new Set<string>();
    const arrivals = facts.filter((f) => !seen.has(f.text) && seen.add(f.text)).flatMap((f) => sent.get(f.text) ?? []);
    // From the last backwards: the earliest answer among those that arrived after this one.
    let earliest: Sent | undefined;
    for (const s of arrivals.toReversed()) {
      if (earliest?.answered && earliest.answered.at < s.asked.at)
        breaches.push({
          rule: "out of order",
          what: `agent ${agent}: ${earliest.asked.text} was answered at ${seconds(earliest.answered.at)}, before ${s.asked.text} was sent at ${seconds(s.asked.at)}, and arrived after it`,
        });
      const { answered } = s;
      if (answered && accepted(answered.status) && (!earliest?.answered || answered.at < earliest.answered.at))
        earliest = s;
    }
  }
  return breaches;
};
