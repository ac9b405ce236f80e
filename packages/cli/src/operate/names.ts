import { type Group, type HubClient, HubResponseError, type Policy, type User } from "@rootstock/client";
import { parseUuid } from "@rootstock/protocol";
import { CliError } from "../exitCodes.ts";

/** Who and what is named at the command line. */

/** The person with this id or e-mail address. Throws CliError when there is none that one may see. */
export const userNamed = async (hub: HubClient, name: string): Promise<User> => {
  if (parseUuid(name)) return found(hub.users.get(name), `there is no person with the id ${name}`);
  const email = name.trim().toLowerCase();
  for await (const user of hub.users.all({ search: email })) if (user.email === email) return user;
  throw new CliError(`nobody here has the address ${name}`);
};

/** The group with this id or slug. Throws CliError when there is none that one may see. */
export const groupNamed = (hub: HubClient, name: string): Promise<Group> =>
  found(hub.groups.get(name), `there is no group "${name}"`);

/** The policy with this id, or the only one with this name. Throws CliError when there is none, or more than one. */
export const policyNamed = async (hub: HubClient, name: string): Promise<Policy> => {
  if (parseUuid(name)) return found(hub.policies.get(name), `there is no policy with the id ${name}`);
  const named: Policy[] = [];
  for await (const policy of hub.policies.all()) if (policy.name === name) named.push(policy);
  const [policy, another] = named;
  if (!policy) throw new CliError(`there is no policy "${name}"`);
  if (another) throw new CliError(`${named.length} policies are named "${name}": give its id`);
  return policy;
};

/** Somebody that rights are given to: a person by id or address, a group by id or slug, an agent by its id. */
export const principalNamed = async (
  hub: HubClient,
  type: "user" | "group" | "agent",
  name: string,
): Promise<string> => {
  switch (type) {
    case "user":
      return (await userNamed(hub, name)).id;
    case "group":
      return (await groupNamed(hub, name)).id;
    case "agent": {
      const id = parseUuid(name);
      if (!id) throw new CliError(`an agent is named by its id here, not "${name}"`);
      return id;
    }
  }
};

const found = async <T>(asked: Promise<T>, absent: string): Promise<T> => {
  try {
    return await asked;
  } catch (err) {
    if (err instanceof HubResponseError && err.status === 404) throw new CliError(absent, { cause: err });
    throw err;
  }
};
