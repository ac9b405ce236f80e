import { accepted, type Breach, factsOf, groupBy, seconds } from "../breach.ts";
import type { FactOf, Round } from "../history.ts";

/** Invariant 7, for subscribers that listened from before the load began. A `resync` is an explicit gap. */
export const checkEvents = (round: Round): Breach[] => {
  const resynced = new Set(factsOf(round.facts, "resync").map((f) => f.subscriber));
  return [...groupBy(factsOf(round.facts, "event"), (f) => f.subscriber)].flatMap(([subscriber, events]) =>
    resynced.has(subscriber)
      ? []
      : [...messageEvents(round, subscriber, events), ...agentEvents(round, subscriber, events)],
  );
};

const breach = (what: string): Breach => ({ rule: "event missed or repeated", what });

/** Every message once, and never one before another that was answered before it was sent. */
const messageEvents = (round: Round, subscriber: string, events: readonly FactOf<"event">[]): Breach[] => {
  const heard = groupBy(
    events.filter((e) => e.topic === "message"),
    (e) => e.entity,
  );
  const breaches: Breach[] = [];
  for (const [id, times] of heard)
    if (times.length > 1) breaches.push(breach(`${subscriber} heard of message ${id} ${times.length} times`));
  for (const row of round.rest.messages)
    if (!heard.has(row.id)) breaches.push(breach(`${subscriber} never heard of message ${row.text} (${row.id})`));
  const asked = new Map(factsOf(round.facts, "asked").map((f) => [f.text, f]));
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

/** What is said of each agent is what the change log says, in its order. */
const agentEvents = (round: Round, subscriber: string, events: readonly FactOf<"event">[]): Breach[] => {
  const heard = groupBy(
    events.filter((e) => e.topic === "agent"),
    (e) => e.entity,
  );
  return [...groupBy(round.rest.agentChanges, (c) => c.agent)].flatMap(([agent, changes]): Breach[] => {
    const wanted = changes.map((c) => c.value);
    const got = (heard.get(agent) ?? []).map((e) => e.value);
    if (got.length === wanted.length && got.every((value, i) => value === wanted[i])) return [];
    const at = wanted.findIndex((value, i) => value !== got[i]);
    return [
      breach(
        `${subscriber} heard ${got.length} of ${wanted.length} changes of agent ${agent}; number ${at < 0 ? wanted.length : at} was to be "${wanted[at] ?? "none"}" and was "${got[at < 0 ? wanted.length : at] ?? "none"}"`,
      ),
    ];
  });
};
