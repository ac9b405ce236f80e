-- compatible: yes
-- A crash of the server forgets transactions that had ended and were not yet on disk: claims, which do not wait for it, and
-- those that were rolled back. Their ids are given out once more, and whoever had seen them end takes the new ones for told.
-- What is unlogged is empty after a crash, and only then: while this row is there, nothing has been forgotten.
create unlogged table feed_unbroken (
  one boolean primary key default true check (one)
);
insert into feed_unbroken default values;
