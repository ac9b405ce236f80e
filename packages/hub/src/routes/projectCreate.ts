import { HubError, invalidField, slugify, type Uuid } from "@rootstock/protocol";
import type { Random } from "@rootstock/service";
import {
  chooseDefaultRuntimeBroker,
  type Db,
  insertProject,
  type Labels,
  linkAutoProviders,
  type ProjectRow,
  projectRow,
  slugsLike,
  slugWasAnothers,
  type Visibility,
  wasAnothers,
} from "@rootstock/store";
import type { Principal } from "../auth/index.ts";
import { projectResource, readable } from "./rights.ts";

/** A project to be, checked. */
export interface NewProject {
  /** Chosen by the caller: the same id again answers the project that it made. */
  readonly id: Uuid | undefined;
  readonly name: string;
  /** Undefined: made from the name. */
  readonly slug: string | undefined;
  /** Normalised; empty for a project without git. */
  readonly gitRemote: string;
  readonly labels: Labels;
  readonly visibility: Visibility;
  readonly ownerId: Uuid;
}

const MAX_SLUG = 63;
/** Each further one means that another caller took the slug between the look and the insert. */
const MAX_TRIES = 50;

/**
 * Creates a project in the caller's transaction, with every runtime broker that serves all projects linked, or finds the
 * one that has the id already (spec/02 3.2). A slug that is taken, or was by somebody else's project, gets `-1`, `-2`, …,
 * and the name ` (1)`, ` (2)`, ….
 * Throws 400 for a name without letters and digits, 409 for the id of a project that is gone and was another one's.
 */
export const createProject = async (
  tx: Db,
  random: Random,
  input: NewProject,
): Promise<{ readonly project: ProjectRow; readonly created: boolean }> => {
  const existing = input.id && (await projectRow(tx, input.id));
  if (existing) return { project: existing, created: false };
  // In the words in which one is refused that is there.
  if (input.id && (await wasAnothers(tx, input.id, input.ownerId))) throw anothersId();
  const inserted = await insertWithFreeSlug(tx, input.id ?? random.uuid(), input);
  if (!inserted.created) return inserted;
  await linkAutoProviders(tx, inserted.project.id);
  await chooseDefaultRuntimeBroker(tx, inserted.project.id);
  return { project: (await projectRow(tx, inserted.project.id)) ?? inserted.project, created: true };
};

/** Throws 409 unless the principal may read the project that has the id which they chose for theirs. */
export const demandOwnId = async (principal: Principal, project: ProjectRow): Promise<void> => {
  await readable(principal, project, projectResource, anothersId());
};

/** 409 for an id that the caller chose and may not have. */
const anothersId = (): HubError => new HubError("conflict", "this id belongs to another project");

const insertWithFreeSlug = async (
  tx: Db,
  id: Uuid,
  input: NewProject,
): Promise<{ readonly project: ProjectRow; readonly created: boolean }> => {
  const base = slugify(input.slug ?? input.name);
  if (base === "")
    throw invalidField(input.slug ? "slug" : "name", "a project's name or slug needs at least one letter or digit");
  const taken = new Set(await slugsLike(tx, base, input.ownerId));
  let serial = 0;
  for (let attempt = 0; attempt < MAX_TRIES; attempt += 1) {
    while (taken.has(numbered(base, serial))) serial += 1;
    const slug = numbered(base, serial);
    // Cut short for its number, it is not among those that are like the base.
    if (await slugWasAnothers(tx, { slug, projectId: id, ownerId: input.ownerId })) {
      taken.add(slug);
      continue;
    }
    const project = await insertProject(tx, {
      id,
      slug,
      name: serial === 0 ? input.name : `${input.name} (${serial})`,
      git_remote: input.gitRemote || null,
      labels: JSON.stringify(input.labels),
      visibility: input.visibility,
      created_by: input.ownerId,
      owner_id: input.ownerId,
    });
    if (project) return { project, created: true };
    const same = await projectRow(tx, id);
    if (same) return { project: same, created: false };
    taken.add(slug);
  }
  throw new HubError("conflict", "no free slug was found for this name");
};

const numbered = (base: string, serial: number): string => {
  if (serial === 0) return base;
  const suffix = `-${serial}`;
  return base.slice(0, MAX_SLUG - suffix.length).replace(/-+$/, "") + suffix;
};
