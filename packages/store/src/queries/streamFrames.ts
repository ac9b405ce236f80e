import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";

/** What one replica says to another about a stream. */
export interface StreamFrameRow {
  readonly toReplica: Uuid;
  readonly fromReplica: Uuid;
  readonly streamId: Uuid;
  /** Per stream and direction, from 0. */
  readonly seq: number;
  readonly kind: string;
  readonly body: Buffer;
}

/** Puts frames down for their replicas, in this order. */
export const insertStreamFrames = async (db: Db, frames: readonly StreamFrameRow[]): Promise<void> => {
  if (frames.length === 0) return;
  await sql`
    insert into stream_frames (to_replica, from_replica, stream_id, seq, kind, body)
    select f.to_replica, f.from_replica, f.stream_id, f.seq, f.kind, f.body
      from unnest(${frames.map((f) => f.toReplica)}::uuid[], ${frames.map((f) => f.fromReplica)}::uuid[],
                  ${frames.map((f) => f.streamId)}::uuid[], ${frames.map((f) => f.seq)}::int[],
                  ${frames.map((f) => f.kind)}::text[], ${frames.map((f) => f.body)}::bytea[])
        with ordinality as f(to_replica, from_replica, stream_id, seq, kind, body, n)
     order by f.n`.execute(db);
};

/** Takes up to `limit` frames for a replica away, in the order in which they were put down. */
export const takeStreamFrames = async (db: Db, toReplica: Uuid, limit: number): Promise<readonly StreamFrameRow[]> => {
  const { rows } = await sql<StreamFrameRow>`
    with taken as (
      delete from stream_frames where to_replica = ${toReplica} and id = any(array(
        select id from stream_frames where to_replica = ${toReplica} order by id limit ${limit}))
      returning id, to_replica, from_replica, stream_id, seq, kind, body)
    select to_replica as "toReplica", from_replica as "fromReplica", stream_id as "streamId", seq, kind, body
      from taken order by id`.execute(db);
  return rows;
};

/** Takes back the frames of a stream that their replica has not taken. False when there are none. */
export const withdrawStreamFrames = async (db: Db, toReplica: Uuid, streamId: Uuid): Promise<boolean> => {
  const { numAffectedRows } = await sql`
    delete from stream_frames where to_replica = ${toReplica} and stream_id = ${streamId}`.execute(db);
  return (numAffectedRows ?? 0n) > 0n;
};

/** Removes at most `limit` frames that nobody has come for. */
export const deleteStrayStreamFrames = async (
  db: Db,
  p: { readonly olderThanSeconds: number; readonly limit: number },
): Promise<number> => {
  const { numAffectedRows } = await sql`
    delete from stream_frames where (to_replica, id) in (
      select to_replica, id from stream_frames
       where created < now() - make_interval(secs => ${p.olderThanSeconds}::float8) limit ${p.limit})`.execute(db);
  return Number(numAffectedRows ?? 0n);
};
