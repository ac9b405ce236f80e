import { systemClock } from "@rootstock/service";
import { type EventFrame, type EventStream, openEventStream } from "@rootstock/testkit";
import type { Dice } from "./dice.ts";
import type { Fleet } from "./fleet.ts";
import type { History } from "./history.ts";

export interface SubscriberContext {
  readonly fleet: Fleet;
  readonly history: History;
  readonly dice: Dice;
  /** How a message is known to the history. */
  readonly textOf: (msg: string, agent: string) => string;
}

/** A client of the event stream that changes replicas again and again, each time from the last id that it saw. */
export class Subscriber {
  readonly name: string;
  readonly #patterns: readonly string[];
  readonly #around: SubscriberContext;
  readonly #stop = new AbortController();
  #last: string | undefined;
  #running: Promise<void> | undefined;

  constructor(name: string, patterns: readonly string[], around: SubscriberContext) {
    this.name = name;
    this.#patterns = patterns;
    this.#around = around;
  }

  /** Resolves once it listens: from then on it must hear everything. */
  async start(): Promise<void> {
    const first = await this.#open();
    this.#running = this.#listen(first);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  #open(): Promise<EventStream> {
    const { fleet, dice } = this.#around;
    return openEventStream(fleet.forCall(dice), { patterns: this.#patterns, lastEventId: this.#last });
  }

  async #listen(first: EventStream): Promise<void> {
    const { dice } = this.#around;
    let stream: EventStream | undefined = first;
    while (!this.#stop.signal.aborted) {
      if (stream) {
        await this.#read(stream, dice.between(300, 3_000));
        await stream.close();
      } else await systemClock.sleep(dice.between(50, 400), this.#stop.signal);
      stream = this.#stop.signal.aborted ? undefined : await this.#open().catch(() => undefined);
    }
    await stream?.close();
  }

  /** Takes what comes for a while. What came after that is heard again from the next replica. */
  async #read(stream: EventStream, forMs: number): Promise<void> {
    const until = performance.now() + forMs;
    let taken = 0;
    while (performance.now() < until && !this.#stop.signal.aborted) {
      for (const frame of stream.frames.slice(taken)) this.#take(frame);
      taken = stream.frames.length;
      await systemClock.sleep(20);
    }
  }

  #take(frame: EventFrame): void {
    const { history, textOf } = this.#around;
    if (frame.id !== undefined) this.#last = frame.id;
    if (frame.event === "resync") history.add({ kind: "resync", subscriber: this.name });
    if (frame.event !== "update") return;
    const { subject = "", data = {} } = frame.data as { subject?: string; data?: Record<string, string> };
    const [kind, agent, what] = subject.split(".");
    if (kind !== "agent" || agent === undefined) return;
    const about = { kind: "event", subscriber: this.name, id: frame.id ?? "" } as const;
    if (what === "message" && !subject.endsWith(".failed"))
      history.add({ ...about, topic: "message", entity: data.id ?? "", value: textOf(data.msg ?? "", agent) });
    if (what === "status")
      history.add({ ...about, topic: "agent", entity: agent, value: `${data.phase ?? ""}/${data.activity ?? ""}` });
  }
}
