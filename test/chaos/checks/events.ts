import { accepted, type Breach, factsOf, groupBy, seconds } from "../breach.ts";
import type { FactOf, Round } from "../history.ts";

/**
 * Invariant 7, for subscribers that listened from before the load began. A `resync` is an explicit gap, which only a crash
 * of the database is a reason for, one for each, and ends there.
 */
export const checkEvents = (round: Round): Breach[] => {
  const resyncs = groupBy(factsOf(round.facts, "resync"), (f) => f.subscriber);
  const crashes = factsOf(round.facts, "fault").filter((f) => f.what === "crash database");
  const needless = [...resyncs.values()].flatMap((told) =>
    told
      .filter((r, i) => crashes.filter((c) => c.at <= r.at).length <= i)
      .map((r) => breach(`${r.subscriber} was told at ${seconds(r.at)} to read anew, and nothing was lost`)),
  );
  const events = groupBy(factsOf(round.facts, "event"), (f) => f.subscriber);
  const heard = [...new Set([...round.rest.subscribers, ...events.keys()])].flatMap((subscriber) => {
    const gapUntil = resyncs.get(subscriber)?.at(-1)?.at;
    const told = events.get(subscriber) ?? [];
    return [...messageEvents(round, subscriber, told, gapUntil), ...agentEvents(round, subscriber, told, gapUntil)];
  });
  return [...needless, ...heard];
};

const breach = (what: string): Breach => ({ rule: "event missed or repeated", what });

/** Every message once, and never one before another that was answered before it was sent. */
const messageEvents = (
  round: Round,
  subscriber: string,
  events: readonly FactOf<"event">[],
  gapUntil: number | undefined,
): Breach[] => {
  const heard = groupBy(
    events.filter((e) => e.topic === "message"),
    (e) => e.entity,
  );
  const breaches: Breach[] = [];
  for (const [id, times] of heard)
    if (times.length > 1) breaches.push(breach(`${subscriber} heard of message ${id} ${times.length} times`));
  const asked = new Map(factsOf(round.facts, "asked").map((f) => [f.text, f]));
  for (const row of round.rest.messages) {
    const inGap = gapUntil !== undefined && (asked.get(row.text)?.at ?? 0) <= gapUntil;
    if (!heard.has(row.id) && !inGap)
      breaches.push(breach(`${subscriber} never heard of message ${row.text} (${row.id})`));
  }
  const answers = new Map(factsOf(round.facts, "answered").map((f) => [`${f.call} ${f.agent}`, f]));
  let earliest: { readonly text: string; readonly at: number } | undefined;
  for (const [, [event]] of [...heard].toReversed()) {
    const sent = event && asked.get(event.value);
    if (!sent) continue;
    if (earliest && earliest.at < sent.at)
      breaches.push(
        breach(
          `${subscriber} heard of ${sent.text} before ${earliest.text}, which was answered at ${seconds(earliest.at)}`,
        ),
      );
    const answer = answers.get(`${sent.call} ${sent.agent}`);
    if (answer && accepted(answer.status) && (!earliest || answer.at < earliest.at))
      earliest = { text: sent.text, at: answer.at };
  }
  return breaches;
};

/** What is said of each agent is what the change log says, in its order; after a gap, the last of that. */
const agentEvents = (
  round: Round,
  subscriber: string,
  events: readonly FactOf<"event">[],
  gapUntil: number | undefined,
): Breach[] => {
  const heard = groupBy(
    events.filter((e) => e.topic === "agent" && (gapUntil === undefined || e.at > gapUntil)),
    (e) => e.entity,
  );
  return [...groupBy(round.rest.agentChanges, (c) => c.agent)].flatMap(([agent, changes]): Breach[] => {
    const got = (heard.get(agent) ?? []).map((e) => e.value);
    const all = changes.map((c) => c.value);
    const wanted = gapUntil === undefined ? all : all.slice(Math.max(0, all.length - got.length));
    if (got.length === wanted.length && got.every((value, i) => value === wanted[i])) return [];
    const at = wanted.findIndex((value, i) => value !== got[i]);
    return [
      breach(
        `${subscriber} heard ${got.length} of ${wanted.length} changes of agent ${agent}; number ${at < 0 ? wanted.length : at} was to be "${wanted[at] ?? "none"}" and was "${got[at < 0 ? wanted.length : at] ?? "none"}"`,
      ),
    ];
  });
};
