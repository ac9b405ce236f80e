import type { TypedInput } from "../runtime.ts";
import { TMUX_SESSION } from "./runArgs.ts";

const TARGET = `${TMUX_SESSION}:agent`;
/** What the script answers when the agent's tmux session did not come up. */
export const NO_TERMINAL = 75;

/**
 * Types standard input into the agent. The message's mark is an option of the tmux session: tmux looks at it, sets it and
 * pastes in one go, so that a message is typed once even when the runtime broker is killed while this runs and asks again.
 * The text goes through a buffer, because tmux refuses command lines above 16 KB, and is pasted in brackets, because
 * programs take single characters for hot keys. Two more Enters follow: some programs swallow the first.
 *
 * Arguments: mark (may be empty), former mark to drop (may be empty), interrupt key (may be empty), kind.
 */
const SCRIPT = `
mark=$1 former=$2 interrupt=$3 kind=$4 i=0
until tmux has-session -t ${TMUX_SESSION} 2>/dev/null; do
  i=$((i+1)); [ "$i" -gt 20 ] && { echo "no terminal" >&2; exit ${NO_TERMINAL}; }; sleep 0.5
done
[ -n "$former" ] && tmux set-option -q -u -t ${TMUX_SESSION} "@$former"
[ -n "$mark" ] && [ -n "$(tmux show-options -q -v -t ${TMUX_SESSION} "@$mark")" ] && exit 0
[ -n "$interrupt" ] && { tmux send-keys -t ${TARGET} "$interrupt"; sleep 0.1; }
buffer=rootstock-$$
[ "$kind" = enter ] || tmux load-buffer -b "$buffer" - || exit 1
case $kind in
  raw) act="paste-buffer -r -d -b $buffer -t ${TARGET}";;
  paste) act="paste-buffer -p -d -b $buffer -t ${TARGET} ; send-keys -t ${TARGET} Enter";;
  enter) act="send-keys -t ${TARGET} Enter";;
esac
seen= set=
[ -n "$mark" ] && { seen="#{@$mark}"; set="set-option -t ${TMUX_SESSION} @$mark 1 ; "; }
tmux if-shell -F -t ${TARGET} "$seen" "" "$set$act" || exit 1
tmux delete-buffer -b "$buffer" 2>/dev/null
[ "$kind" = paste ] && { sleep 0.3; tmux send-keys -t ${TARGET} Enter; sleep 0.3; tmux send-keys -t ${TARGET} Enter; }
exit 0
`;

/** The name of a message's mark: options of tmux have letters, digits and underscores. */
export const messageMark = (messageId: string): string => `rootstock_${Buffer.from(messageId).toString("hex")}`;

/** The command to run inside the container to type `input`; its text goes to standard input. */
export const typeCommand = (input: TypedInput, formerMark: string | undefined): string[] => {
  const kind = input.raw ? "raw" : input.text === "" ? "enter" : "paste";
  const mark = input.messageId === undefined ? "" : messageMark(input.messageId);
  return ["sh", "-c", SCRIPT, "type", mark, formerMark ?? "", input.interruptKey ?? "", kind];
};
