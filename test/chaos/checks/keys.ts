import { accepted, type Breach, factsOf, groupBy, seconds } from "../breach.ts";
import type { Round, Verb } from "../history.ts";

/** Calls with an `Idempotency-Key`: executed once, and every repetition hears what the first one heard. */
export const checkKeys = (round: Round): Breach[] => [...sameAnswers(round), ...oneRowEach(round), ...oneIntent(round)];

const breach = (what: string): Breach => ({ rule: "idempotent call executed twice", what });

/** What was refused before anything was committed leaves no key; from the first yes on the answer is the same. */
const sameAnswers = ({ facts }: Round): Breach[] =>
  [...groupBy(factsOf(facts, "answered by key"), (f) => f.call)].flatMap(([call, answers]): Breach[] => {
    const yes = answers.findIndex((a) => accepted(a.status));
    const first = answers[yes];
    const other =
      yes < 0 ? undefined : answers.slice(yes).find((a) => a.status !== first?.status || a.body !== first.body);
    if (!first || !other) return [];
    return [
      breach(
        `${call} was answered ${first.status} at ${seconds(first.at)} (${shortly(first.body)}), and ${other.status} at ${seconds(other.at)} (${shortly(other.body)})`,
      ),
    ];
  });

/** However often a call was made, it left one message. Their texts are the calls' own. */
const oneRowEach = ({ rest }: Round): Breach[] =>
  [...groupBy(rest.messages, (m) => m.text)].flatMap(([text, rows]): Breach[] =>
    rows.length > 1 ? [breach(`${text} was stored ${rows.length} times: ${rows.map((r) => r.id).join(", ")}`)] : [],
  );

const OPS: Readonly<Record<Verb, readonly string[]>> = {
  start: ["start", "resume"],
  stop: ["stop"],
  restart: ["restart"],
  // Known by their names, and made once: the second would be refused.
  create: [],
  delete: [],
};

/** There are no more intents than calls: what a call does twice, it does under one intent. */
const oneIntent = ({ facts, rest }: Round): Breach[] =>
  [...groupBy(factsOf(facts, "operation asked"), (f) => f.agent)].flatMap(([agent, calls]) =>
    (Object.keys(OPS) as Verb[]).flatMap((verb): Breach[] => {
      const asked = calls.filter((c) => c.verb === verb).length;
      const intents = rest.dispatches.filter((d) => d.agent === agent && OPS[verb].includes(d.op)).length;
      return intents > asked ? [breach(`agent ${agent}: ${asked} calls of ${verb} left ${intents} intents`)] : [];
    }),
  );

const shortly = (body: string): string => body.slice(0, 120);
