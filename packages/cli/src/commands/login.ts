import { hostname } from "node:os";
import { type DeviceLogin, HubClient, type LoginTokens } from "@rootstock/client";
import type { Command } from "commander";
import { hubUrl } from "../connection.ts";
import { CliError, EXIT_CODE_HELP, UsageError } from "../exitCodes.ts";
import { addSettings, type Env, settingsEnv } from "../flags.ts";
import { changeLogins, loginOf, storedLogin } from "../logins.ts";
import { KNOWN_VARIABLES, LOGIN_SETTINGS } from "../settings.ts";
import type { Terminal } from "../terminal.ts";

/** A hub that asks for more time than it has said before gets so much, in seconds (spec/03 3.3). */
const SLOW_DOWN_SECONDS = 5;

/** `rootstock login` and `rootstock logout`. */
export const addLoginCommands = (program: Command, terminal: Terminal): void => {
  const login = program
    .command("login")
    .summary("log in to a hub as a person")
    .description(
      "Shows an address and a code. Open it in a browser, on this machine or any other, sign in there and allow this login. It is kept for the other commands, readable by you alone, and renewed by itself: it is over when it has not been used for three weeks.",
    )
    .addHelpText("after", EXIT_CODE_HELP);
  addSettings(login, LOGIN_SETTINGS).action(async () => {
    const { env, url } = opened(login, terminal);
    const hub = new HubClient({ baseUrl: url });
    const device = await hub.login.begin(`rootstock on ${hostname()}`);
    terminal.out(`Open ${device.verificationUrl}\nand enter the code ${device.userCode}`);
    if (device.verificationUrlComplete) terminal.out(`or open ${device.verificationUrlComplete}`);
    const tokens = await wait(hub, device, terminal);
    const { clock } = terminal.base;
    await changeLogins(env, clock, (store) => store(url, loginOf(tokens, clock.now())));
    terminal.out(`logged in as ${tokens.user.email} (${tokens.user.role})`);
  });

  const logout = program
    .command("logout")
    .summary("end the login at a hub")
    .description("Ends the login at the hub, so that its tokens are worth nothing anywhere, and forgets it here.")
    .addHelpText("after", EXIT_CODE_HELP);
  addSettings(logout, LOGIN_SETTINGS).action(async () => {
    const { env, url } = opened(logout, terminal);
    const kept = await changeLogins(env, terminal.base.clock, (store) => {
      const login = storedLogin(env, url);
      // Forgotten first: whatever the hub says, this machine has no use for it any more.
      if (login) store(url, undefined);
      return login;
    });
    if (!kept) throw new CliError(`you are not logged in to ${url}`);
    await new HubClient({ baseUrl: url }).login.end(kept.refreshToken);
    terminal.out(`logged out of ${url}`);
  });
};

const opened = (command: Command, terminal: Terminal): { readonly env: Env; readonly url: string } => {
  const { env, problems } = settingsEnv(command, LOGIN_SETTINGS, terminal.env, KNOWN_VARIABLES, []);
  if (problems.length > 0) throw new UsageError(problems);
  return { env, url: hubUrl(env, process.getuid?.() === 0) };
};

/** Asks until somebody has decided. */
const wait = async (hub: HubClient, device: DeviceLogin, { base: { clock } }: Terminal): Promise<LoginTokens> => {
  let seconds = device.interval || SLOW_DOWN_SECONDS;
  const until = clock.elapsed() + device.expiresIn * 1000;
  while (clock.elapsed() < until) {
    await clock.sleep(seconds * 1000);
    const answer = await hub.login.poll(device.deviceCode);
    if (answer.kind === "done") return answer.tokens;
    if (answer.kind === "expired") break;
    if (answer.kind === "slowDown") seconds += SLOW_DOWN_SECONDS;
  }
  throw new CliError("nobody has allowed the login in time; try again");
};
