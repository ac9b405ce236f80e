import { type MakeDrafts, present } from "./drafts.ts";

/** Events about people, who may come in and who may do what: told by the log alone. */

/** A user's rights or name: what was handed out to them is looked at again. */
export const userEvent: MakeDrafts = (row, _facts, wanted) => {
  const subjects = [`user.${row.entityId}.changed`];
  if (row.op === "I" || !wanted(subjects)) return [];
  const told = row.op === "D" ? {} : { role: row.payload.role, status: row.payload.status };
  return [{ subjects, data: { userId: row.entityId, ...told } }];
};

/** Never an address: who may come in is told to admins in lists, and not to whoever reads an event stream's log. */
export const allowListEvent: MakeDrafts = (row, _facts, wanted) => {
  const subjects = ["admin.allowlist.changed"];
  if (!wanted(subjects)) return [];
  const action = row.op === "D" ? "removed" : row.payload.many === true ? "bulk_added" : "added";
  return [{ subjects, data: { action } }];
};

export const inviteEvent: MakeDrafts = (row, _facts, wanted) => {
  const subjects = ["admin.invite.changed"];
  if (!wanted(subjects)) return [];
  const changed = row.changed.includes("revoked") ? "revoked" : "redeemed";
  const action = { I: "created", U: changed, D: "deleted" }[row.op];
  return [{ subjects, data: { action, inviteId: row.entityId, ...present({ codePrefix: row.payload.code_prefix }) } }];
};

export const maintenanceEvent: MakeDrafts = (row, _facts, wanted) => {
  const subjects = ["admin.maintenance.changed"];
  return wanted(subjects) ? [{ subjects, data: { enabled: row.payload.enabled === true } }] : [];
};

/** Groups, memberships, policies, bindings: what they give is looked at again. */
export const accessEvent: MakeDrafts = (row, _facts, wanted) => {
  const subjects = [`access.${row.entity}.changed`];
  return wanted(subjects) ? [{ subjects, data: { id: row.entityId } }] : [];
};

/** Who may read a project, or an agent by itself: a project with what decides it, as far as that is short. */
export const sightEvent =
  (of: "project" | "agent"): MakeDrafts =>
  (row, _facts, wanted) => {
    const subjects = [`sight.${of}.changed`];
    const { visibility, labels } = row.payload;
    const added = row.op === "I" && { added: true };
    return wanted(subjects)
      ? [{ subjects, data: { id: row.entityId, ...added, ...present({ visibility, labels }) } }]
      : [];
  };

/** Something that was shown as a proof proves nothing any more. Never the proof itself. */
export const credentialEvent: MakeDrafts = (row, _facts, wanted) => {
  const subjects = [`credential.${row.entityId}.ended`];
  return wanted(subjects) ? [{ subjects, data: { id: row.entityId, ...present({ of: row.payload.of }) } }] : [];
};
