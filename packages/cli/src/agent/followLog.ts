import type { ProjectAgents } from "@rootstock/client";
import { Backoff } from "@rootstock/service";
import type { Terminal } from "../terminal.ts";

/** Prints an agent's log as it grows, over the ends of connections, until it ends. */
export const followLog = async (
  agents: ProjectAgents,
  name: string,
  tail: number | undefined,
  terminal: Terminal,
): Promise<void> => {
  const { clock, random } = terminal.base;
  const backoff = new Backoff({ firstMs: 250, maxMs: 10_000 }, random);
  const wait = async (attempt: number): Promise<void> => {
    if (attempt <= 1) backoff.reset();
    terminal.err("the connection has ended, following again");
    await clock.sleep(backoff.next());
  };
  // Ctrl-C ends the process; nothing else ends it from here.
  const { signal } = new AbortController();
  for await (const line of agents.followLogs(name, { tail, signal, wait })) terminal.out(line);
};
