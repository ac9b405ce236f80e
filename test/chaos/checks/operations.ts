import { accepted, type Breach, factsOf, groupBy, seconds } from "../breach.ts";
import type { Action, FactOf, Round, Verb } from "../history.ts";

/** Invariant 2, and "nothing that was answered as failed runs later". */

const ACTIONS: Readonly<Record<Verb, readonly Action[]>> = {
  start: ["start"],
  stop: ["stop"],
  restart: ["stop", "start"],
  // One that fails takes back what it left.
  create: ["create", "delete"],
  delete: ["delete"],
};

/** Two executions for one agent may overlap only where the first one's socket had gone when the second began. */
export const checkOverlap = ({ facts }: Round): Breach[] => {
  const ended = new Map(factsOf(facts, "execution ended").map((f) => [f.execution, f.at]));
  const sessionEnds = new Map(factsOf(facts, "session ended").map((f) => [f.session, f.at]));
  const breaches: Breach[] = [];
  for (const [agent, executions] of groupBy(factsOf(facts, "execution began"), (f) => f.agent))
    for (const [i, second] of executions.entries())
      for (const one of executions.slice(0, i)) {
        const until = Math.min(
          ended.get(one.execution) ?? Number.POSITIVE_INFINITY,
          sessionEnds.get(one.session) ?? Number.POSITIVE_INFINITY,
        );
        if (second.at < until)
          breaches.push({
            rule: "executed twice at once",
            what: `agent ${agent}: ${second.action} began at ${seconds(second.at)} while ${one.action} of ${seconds(one.at)} was under way`,
          });
      }
  return breaches;
};

interface Call {
  readonly asked: FactOf<"operation asked">;
  /** From then on nothing of it may begin; undefined while nobody has said that it has ended. */
  readonly overAt: number | undefined;
  readonly failed: boolean;
}

/** Each execution belongs to a call that was under way, or of which nobody has said that it has ended. */
export const checkAnswered = ({ facts, rest }: Round): Breach[] => {
  const answers = new Map(factsOf(facts, "operation answered").map((f) => [f.call, f]));
  const calls = factsOf(facts, "operation asked").map((asked): Call => {
    const answer = answers.get(asked.call);
    const over = answer && answer.status !== 0 && !answer.unfinished;
    return { asked, overAt: over ? answer.at : undefined, failed: answer !== undefined && !accepted(answer.status) };
  });
  const byAgent = groupBy(calls, (c) => c.asked.agent);
  const breaches: Breach[] = [];
  for (const e of factsOf(facts, "execution began")) {
    const asking = (byAgent.get(e.agent) ?? []).filter(
      (c) => ACTIONS[c.asked.verb].includes(e.action) && c.asked.at <= e.at,
    );
    if (asking.some((c) => c.overAt === undefined || c.overAt >= e.at)) continue;
    const last = asking.at(-1);
    breaches.push({
      rule: last?.failed ? "failed, and ran later" : "executed twice at once",
      what: `agent ${e.agent}: ${e.action} began at ${seconds(e.at)}, ${
        last?.overAt === undefined
          ? "which nobody had asked for"
          : `after its call (${last.asked.call}) had been answered at ${seconds(last.overAt)}`
      }`,
    });
  }
  for (const { agent, phase, there } of rest.phases) {
    if (phase !== "running")
      breaches.push({ rule: "not at rest", what: `agent ${agent} is ${phase} and could not be started` });
    else if (there !== phase)
      breaches.push({
        rule: "an old connection spoke",
        what: `agent ${agent} counts as ${phase} and is ${there ?? "gone"}`,
      });
  }
  for (const d of rest.dispatches)
    if (d.state === "pending" || d.state === "in_progress")
      breaches.push({ rule: "not at rest", what: `${d.op} of agent ${d.agent} (${d.id}) is still ${d.state}` });
  return breaches;
};

/** The operations that have the runtime broker do this. */
const BEGUN_BY: Readonly<Partial<Record<Action, readonly string[]>>> = {
  start: ["start", "resume", "restart"],
  stop: ["stop", "restart"],
};
const BEGUN_BY_CALL: Readonly<Partial<Record<Action, readonly Verb[]>>> = {
  start: ["start", "restart"],
  stop: ["stop", "restart"],
};

/**
 * Each execution is one attempt of an intent. What a replica began directly, and did not live to write down, only its
 * call tells of: one whose end nobody knows.
 */
export const checkAttempts = ({ facts, rest }: Round): Breach[] => {
  const answers = new Map(factsOf(facts, "operation answered").map((f) => [f.call, f]));
  const asked = groupBy(factsOf(facts, "operation asked"), (f) => f.agent);
  return [...groupBy(factsOf(facts, "execution began"), (f) => f.agent)].flatMap(([agent, executions]) =>
    (Object.keys(BEGUN_BY) as Action[]).flatMap((action): Breach[] => {
      const times = executions.filter((e) => e.action === action).length;
      const attempts = rest.dispatches
        .filter((d) => d.agent === agent && BEGUN_BY[action]?.includes(d.op))
        .reduce((sum, d) => sum + d.attempts, 0);
      const unknown = (asked.get(agent) ?? []).filter(
        (c) => BEGUN_BY_CALL[action]?.includes(c.verb) && (answers.get(c.call)?.status ?? 0) === 0,
      ).length;
      return times <= attempts + unknown
        ? []
        : [
            {
              rule: "executed twice at once",
              what: `agent ${agent}: ${action} ran ${times} times, in ${attempts} attempts and ${unknown} calls of unknown end`,
            },
          ];
    }),
  );
};

/** What runs at a runtime broker is known to the hub, or nobody could ever stop it. */
export const checkHeld = ({ rest }: Round): Breach[] =>
  rest.held.flatMap(({ runtimeBroker, slug, known }): Breach[] =>
    known
      ? []
      : [
          {
            rule: "lost",
            what: `agent ${slug} runs at runtime broker ${runtimeBroker}, and the hub does not know of it`,
          },
        ],
  );

/**
 * An operation answered as done was executed: at least one of its actions began between question and answer; or after it,
 * where it was answered as under way.
 */
export const checkCarriedOut = ({ facts }: Round): Breach[] => {
  const answers = new Map(factsOf(facts, "operation answered").map((f) => [f.call, f]));
  const executions = groupBy(factsOf(facts, "execution began"), (f) => f.agent);
  return factsOf(facts, "operation asked").flatMap((asked): Breach[] => {
    const answer = answers.get(asked.call);
    // A start may find that the agent runs already, and then begins nothing.
    if (!answer || asked.verb === "start" || !accepted(answer.status)) return [];
    const actions = ACTIONS[asked.verb];
    const done = executions
      .get(asked.agent)
      ?.some((e) => actions.includes(e.action) && e.at >= asked.at && (answer.unfinished || e.at <= answer.at));
    return done
      ? []
      : [
          {
            rule: "lost",
            what: `agent ${asked.agent}: ${asked.verb} (${asked.call}) asked at ${seconds(asked.at)} was answered ${answer.status} and never reached the runtime broker`,
          },
        ];
  });
};
