import { processEnv } from "./config.ts";
import { run } from "./run.ts";

const write = (stream: NodeJS.WriteStream) => (text: string) => void stream.write(`${text}\n`);

/** Waits until what was written has left: an exit throws away what a slow pipe has not taken yet. */
const flushed = (stream: NodeJS.WriteStream): Promise<void> =>
  new Promise((resolve) => stream.write("", () => resolve()));

// A reader that goes away early (`| head`) is no failure, and a closed terminal must not cut a clean stop short.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});

const code = await run(process.argv.slice(2), processEnv(), { out: write(process.stdout), err: write(process.stderr) });
await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
process.exit(code);
