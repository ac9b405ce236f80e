import { type Figure, number, type Report, ratio, valueText } from "./report.ts";

/** What users see of a failure, by the name that the benchmark `survival` gives it. */
const SEEN: Readonly<Record<string, string>> = {
  "a replica is killed (-9)":
    "Calls in its hands break off; repeated under the same key they count once. Its runtime brokers dial another one.",
  "a replica is stopped (SIGTERM) and started again":
    "Behind a load balancer that asks `/readyz`, nothing; without one, calls that meet the closed port are repeated.",
  "a replica hangs for 15 s":
    "Calls in its hands wait until the client turns elsewhere. Its lease ends after 10 s; its runtime brokers turn to the others when they notice (a minute at most). What it says afterwards counts no more.",
  "all replicas are killed at once (-9)": "Nothing is answered until one is back; it finishes what was accepted.",
  "every runtime broker loses its socket":
    "Messages wait for the redial. A runtime broker counts as online all the while.",
  "no signal between replicas arrives for 10 s": "Work is found by polling, four times a second.",
  "the connections for signals are cut": "The same, until they are back.",
  "the connections for locks are cut": "Nothing: they are back before anybody's lease ends.",
  "all other connections to the database are cut":
    "Calls under way are repeated, or answered 503 and repeated by the client.",
  "the database hangs for 5 s": "Calls wait.",
  "the database is restarted":
    "Calls wait or are answered 503; `/readyz` is red meanwhile. Sockets of runtime brokers stay.",
};

const row = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;

const seconds = (figure: Figure | undefined): string =>
  figure === undefined ? "" : `${number(Math.round(figure.value / 10) / 100)} s`;

const failures = (figures: readonly Figure[]): string => {
  const names = Object.keys(SEEN).filter((name) => figures.some((f) => f.name.startsWith(`${name}: `)));
  const rows = names.map((name) => {
    const of = (what: string) => figures.find((f) => f.name === `${name}: ${what}`);
    const [calls, repeated] = [of("calls")?.value ?? 0, of("calls repeated")?.value ?? 0];
    const bad = ["calls failed", "lost", "out of order"].map((what) => of(what)?.value ?? 0);
    return row([
      name,
      SEEN[name] ?? "",
      seconds(of("slowest call")),
      seconds(of("longest from call to agent")),
      `${number(repeated)} of ${number(calls)}`,
      bad.join(" / "),
    ]);
  });
  return [
    row([
      "what fails",
      "what users see",
      "slowest call",
      "longest way to the agent",
      "calls repeated",
      "failed / lost / out of order",
    ]),
    "| --- | --- | ---: | ---: | ---: | ---: |",
    ...rows,
  ].join("\n");
};

/** Small tables are flat by nature; counts of what must not happen are told together. */
const worthARow = (f: Figure): boolean =>
  f.target !== undefined &&
  f.unit !== "" &&
  f.bench !== "survival" &&
  !(f.bench === "soak" && f.unit === "MB" && f.value < 4);

const costs = (figures: readonly Figure[]): string => {
  const zeros = figures.filter((f) => f.target?.text === "none");
  const broken = zeros.filter((f) => !f.target?.met);
  const rows = figures
    .filter(worthARow)
    .map((f) =>
      row([f.bench, f.name, valueText(f), ratio(f), f.target?.text ?? "", f.target?.met ? "met" : "**missed**"]),
    );
  return [
    row(["benchmark", "measure", "value", "ratio", "target", ""]),
    "| --- | --- | ---: | --- | --- | --- |",
    ...rows,
    "",
    broken.length === 0
      ? `Lost, doubled, out of order, refused: none, in all ${zeros.length} counts.`
      : `Not none: ${broken.map((f) => `${f.bench}: ${f.name} (${number(f.value)})`).join("; ")}.`,
  ].join("\n");
};

const ground = (report: Report): string => {
  const { environment: e } = report;
  const day = e.started.slice(0, 10);
  return `${day}, ${e.cores} cores (${e.cpu}) and ${e.memoryGb} GB for everything, load generator included; Node ${e.node.slice(1)}, PostgreSQL ${e.postgres} (${e.settings}); ${e.loadAverage[0]?.toFixed(1)} processes wanted a core before it began.`;
};

const PARTS: Readonly<Record<string, (report: Report) => string>> = {
  survival: ({ figures }) => failures(figures.filter((f) => f.bench === "survival")),
  costs: ({ figures }) => costs(figures),
  ground,
};

/** The text with what stands between `<!-- measured: NAME -->` and `<!-- end -->` replaced by what the report says. */
export const withMeasured = (text: string, report: Report): string =>
  text.replace(
    /(<!-- measured: (\w+) -->\n)[\s\S]*?(<!-- end -->)/g,
    (whole, begin: string, name: string, end: string) => {
      const part = PARTS[name];
      return part ? `${begin}\n${part(report)}\n\n${end}` : whole;
    },
  );
