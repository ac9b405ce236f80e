-- compatible: yes
-- In which folder of a machine a project's agents work, and by which name people are told from each other, is somebody's
-- doing as well. A name that an account is given at its first sign-in comes with that.
create trigger project_providers_audited_update after update of local_path on project_providers for each row
  when (old.local_path is distinct from new.local_path)
  execute function audit_change('runtime_broker_link_changed', 'runtime_broker', 'runtime_broker_id', '', 'project_id', 'local_path');
create trigger users_audited_name after update of display_name on users for each row
  when (old.display_name <> '' and old.display_name is distinct from new.display_name)
  execute function audit_change('user_renamed', 'user', 'id', 'email', '', 'display_name');
