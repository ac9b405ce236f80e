/**
 * The slug of a name (spec/02 1.5): combining marks dropped, lower case, every run of other characters than `a-z0-9`
 * becomes one `-`, no `-` at the ends, at most 63 characters. May be empty.
 */
export const slugify = (name: string): string =>
  name
    .normalize("NFD")
    .replace(/\p{M}/gu, "")
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 63)
    .replace(/-+$/, "");

/**
 * A git remote as it is stored and compared (spec/02 1.5): lower case, without scheme, user, `.git` and trailing
 * slashes, `git@host:path` as `host/path`.
 */
export const normalizeGitRemote = (remote: string): string => {
  let text = remote.trim().toLowerCase();
  const scp = /^[^/@]+@([^/:]+):(?!\/\/)(.*)$/.exec(text);
  if (scp) text = `${scp[1]}/${scp[2]}`;
  const path = text.replace(/^[a-z][a-z0-9+.-]*:\/\//, "").replace(/^[^/]*@/, "");
  return withoutSlashes(withoutSlashes(path).replace(/\.git$/, ""));
};

/** Without the slashes at its end. A pattern would look at every other run of them from each of its slashes on. */
const withoutSlashes = (text: string): string => {
  let end = text.length;
  while (text[end - 1] === "/") end -= 1;
  return text.slice(0, end);
};

/**
 * A URL without the secret in it: whoever may read a project is shown where its code comes from. Over HTTP the user's name
 * goes as well, which may be a token; elsewhere (`ssh://git@host`) it says whom to log in as.
 */
export const withoutCredentials = (url: string): string =>
  url.replace(/^(\s*https?:\/\/)[^/?#]*@/i, "$1").replace(/^(\s*[a-z][a-z0-9+.-]*:\/\/[^/?#@:]*):[^/?#]*@/i, "$1@");
