import { HubError, type StructuredMessageInput } from "@rootstock/protocol";

/**
 * Whom a message from outside is said to be from. Only the plugin knows the people of its chat, and its word is all there
 * is: everything that it says of them is shown below its own name, as `telegram:ann`, where no name and no id of this hub
 * begins. This hub links no accounts to chats (spec/05 14.2), so that a plugin's `user:ann@example.org` stays what the
 * plugin says, `telegram:user:ann@example.org`.
 */

/** Of a plugin that gives no name. */
const NAMELESS = "plugin";
const NAME = /^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$/;

/** What this hub's own senders and recipients begin with, and what sounds like it. */
const RESERVED = new Set([
  ...["user", "users", "agent", "agents", "group", "set", "project", "grove", "broker", "runtime-broker", "replica"],
  ...["hub", "system", "scheduler", "admin", "root", "scion", "rootstock"],
]);

/** The name of a plugin, from its header, in lower case. Throws 400 for one that is none, or that is the hub's own. */
export const pluginNameOf = (header: string | null): string => {
  const name = (header ?? "").trim().toLowerCase() || NAMELESS;
  if (!NAME.test(name) || RESERVED.has(name))
    throw new HubError(
      "validation_error",
      RESERVED.has(name)
        ? `X-Scion-Plugin-Name must not be ${name}: this hub's own senders begin so`
        : "X-Scion-Plugin-Name must be 1 to 64 letters, digits, dots, underscores and hyphens",
      { details: { field: "X-Scion-Plugin-Name" } },
    );
  return name;
};

/** A name or an id as the plugin gives it, below the plugin's own name, once. Undefined for an empty one. */
export const outsideName = (plugin: string, given: string | null | undefined): string | undefined => {
  const text = (given ?? "").trim();
  const bare = text.toLowerCase().startsWith(`${plugin}:`) ? text.slice(plugin.length + 1).trim() : text;
  return bare === "" ? undefined : `${plugin}:${bare}`;
};

/**
 * The recipients of a message to several, `set[sender,agent:a,…]` (spec/02 4.1). The sender in it is the one that the
 * message has; of the others only agents are kept. Undefined for anything else.
 */
export const outsideRecipients = (
  sender: string,
  { recipients }: Pick<StructuredMessageInput, "recipients">,
): string | undefined => {
  const [, list] = /^set\[([^[\]]*)\]$/.exec(recipients?.trim() ?? "") ?? [];
  if (list === undefined) return undefined;
  const [, ...others] = list.split(",").map((name) => name.trim());
  return `set[${[sender, ...others.filter((name) => /^agent:[a-z0-9-]+$/.test(name))].join(",")}]`;
};
