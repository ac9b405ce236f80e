#!/usr/bin/env node
// Plain JavaScript, so that a Node too old to read TypeScript can still say what is wrong. The command then runs in
// this very process: no wrapper, so that signals and exit codes are its own.
const [major] = process.versions.node.split(".").map(Number);

if (major < 24) {
  process.stderr.write(
    `rootstock needs Node 24; this is ${process.version} (${process.execPath}).\n` +
      "The checkout brings its own. Either let npm put it first:\n" +
      "  npx rootstock ...\n" +
      "or do it yourself, for example in a service file:\n" +
      "  PATH=/path/to/rootstock/node_modules/.bin:$PATH rootstock ...\n",
  );
  process.exit(2);
}

await import("../src/main.ts");
