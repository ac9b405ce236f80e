import type { Uuid } from "@rootstock/protocol";
import type { Action } from "../vocabulary.ts";
import { allow, type Decision, refuse } from "./decision.ts";
import type { Resource } from "./resource.ts";

/** A runtime broker sees the agents that it runs and the projects that it serves, and speaks for itself (spec/03 5.9). */
export const decideForRuntimeBroker = (id: Uuid, action: Action, resource: Resource): Decision => {
  switch (resource.kind) {
    case "runtimeBroker":
      if (action === "read") return allow("any runtime broker");
      if (action === "rotate" && resource.id === id) return allow("itself");
      return refuse("only for itself");
    case "agent":
      if (resource.runtimeBrokerId !== id) return refuse("an agent that it does not run");
      return action === "read" || action === "report" ? allow("it runs this agent") : refuse("not for runtime brokers");
    case "project":
      // What its plugins pass in goes to agents of the projects that it serves.
      return (action === "read" || action === "message") && resource.providers?.includes(id) === true
        ? allow("it provides for this project")
        : refuse("a project that it does not provide for");
    default:
      return refuse("not for runtime brokers");
  }
};
