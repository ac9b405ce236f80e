import { accepted, type Breach, factsOf, seconds } from "../breach.ts";
import type { FactOf, Round } from "../history.ts";

/**
 * Invariant 6: signals are hints. What no other fault stands in the way of is done within `limitMs`, however many
 * signals are swallowed.
 */
export const checkLate = ({ facts }: Round, limitMs: number): Breach[] => {
  const delivered = new Map(
    factsOf(facts, "delivered")
      .toReversed()
      .map((f) => [f.text, f.at]),
  );
  const answers = new Map(factsOf(facts, "answered").map((f) => [`${f.call} ${f.agent}`, f]));
  const ended = new Map(factsOf(facts, "operation answered").map((f) => [f.call, f.at]));
  const halted = new Set(factsOf(facts, "operation asked").map((f) => f.agent));
  const faults = factsOf(facts, "fault").filter((f) => !SWALLOWS_ONLY.has(f.what));
  const disturbed = (from: number, until: number): boolean =>
    faults.some((f) => f.at <= until && f.until + AFTERMATH_MS >= from);
  const judge = (what: string, from: number, until: number): Breach[] =>
    until - from <= limitMs || disturbed(from, until)
      ? []
      : [
          {
            rule: "late",
            what: `${what}: asked at ${seconds(from)}, done at ${seconds(until)}, and nothing in its way`,
          },
        ];
  const messages = factsOf(facts, "asked").flatMap((asked): Breach[] => {
    const at = delivered.get(asked.text);
    const answer = answers.get(`${asked.call} ${asked.agent}`);
    // An agent that is stopped now and then keeps its messages waiting with good reason.
    if (at === undefined || halted.has(asked.agent) || !answer || !accepted(answer.status)) return [];
    return judge(`message ${asked.text}`, asked.at, at);
  });
  const operations = factsOf(facts, "operation asked").flatMap((asked: FactOf<"operation asked">): Breach[] => {
    const at = ended.get(asked.call);
    return at === undefined ? [] : judge(`${asked.verb} of agent ${asked.agent} (${asked.call})`, asked.at, at);
  });
  return [...messages, ...operations];
};

/** Faults that only take hints away, or the time of day. */
const SWALLOWS_ONLY: ReadonlySet<string> = new Set(["deafen", "skew clock"]);
/** So long after its end a fault may still show: leases and grace times. */
const AFTERMATH_MS = 15_000;
