/** The command line `rootstock`, and the load balancer of `rootstock start` for tests. Nothing else imports it but its own bin. */
export { run } from "./run.ts";
export { LoadBalancer } from "./start/loadBalancer.ts";
export { Upstreams } from "./start/upstreams.ts";
