import { serveWorker } from "../worker.ts";
import { serveForwarding } from "./forwarding.ts";

/** Floor: a do-nothing hub. */

serveWorker({ listen: () => serveForwarding() });
