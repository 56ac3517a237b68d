package envs

import (
	"os"
	"path"
	"strings"
)

// The shells' own files stay as they are. Each of these is one of the session's, and
// reads the user's where it takes its place. They put the target before whatever
// prompt the others made, once, and again where something makes it anew: the
// system's own files set PS1 on Debian and on Fedora, and themes do at each prompt.
const (
	// bashHook is for PROMPT_COMMAND: a bash that another program starts has it, too.
	bashHook = `case "${PS1-}" in *"($STEAD_TARGET)"*) ;; *) PS1="($STEAD_TARGET) ${PS1-}" ;; esac`
	bashRC   = `[ ! -r ~/.bashrc ] || . ~/.bashrc
__stead_prompt() {
	local status=$?
	` + bashHook + `
	return $status
}
case $(declare -p PROMPT_COMMAND 2>/dev/null) in
'declare -a'*) PROMPT_COMMAND+=(__stead_prompt) ;;
*) PROMPT_COMMAND="${PROMPT_COMMAND:+$PROMPT_COMMAND
}declare -F __stead_prompt >/dev/null && __stead_prompt" ;;
esac
`
	// shRC is what ENV names: interactive shells of POSIX read it, and no other file.
	shRC = `case "${PS1-}" in *"($STEAD_TARGET)"*) ;; *) PS1="($STEAD_TARGET) ${PS1:-\$ }" ;; esac
`
	// zshEnv and zshRC are .zshenv and .zshrc in a folder that ZDOTDIR names, and only
	// until the latter is read: everything else that zsh reads and writes is at home.
	zshEnv = `__stead_own=$ZDOTDIR
unset ZDOTDIR
[[ ! -r ~/.zshenv ]] || . ~/.zshenv
if [[ -o interactive ]]; then
	__stead_user=${ZDOTDIR-}
	ZDOTDIR=$__stead_own
fi
unset __stead_own
`
	zshRC = `unset ZDOTDIR
[[ -z $__stead_user ]] || ZDOTDIR=$__stead_user
unset __stead_user
[[ ! -r ${ZDOTDIR:-$HOME}/.zshrc ]] || . ${ZDOTDIR:-$HOME}/.zshrc
__stead_prompt() {
	[[ $PROMPT == *"($STEAD_TARGET)"* ]] || PROMPT="($STEAD_TARGET) $PROMPT"
}
precmd_functions+=(__stead_prompt)
`
	fishInit = `functions -q fish_prompt
and functions -c fish_prompt __stead_fish_prompt
function __stead_status; return $argv[1]; end
function fish_prompt
	set -l code $status
	printf '(%s) ' $STEAD_TARGET
	if functions -q __stead_fish_prompt
		__stead_status $code
		__stead_fish_prompt
	end
end`
)

// shell settles the command where none was given, and the prompt of every shell in a
// terminal.
func (s *sessionPlan) shell() {
	asked := len(s.spec.Command) > 0
	if !asked {
		s.spec.Command = []string{s.who.shell}
	}
	if !s.Terminal {
		return
	}
	s.vars["TERM"] = knownTerminal(s.root, os.Getenv("TERM"))
	s.vars["COLORTERM"] = os.Getenv("COLORTERM")
	s.vars["PROMPT_COMMAND"] = bashHook
	s.vars["ENV"] = s.file("shrc", shRC)
	if s.root.program("/bin/zsh") || s.root.program("/usr/bin/zsh") || s.root.program("/usr/local/bin/zsh") {
		s.file("zsh/.zshrc", zshRC)
		s.vars["ZDOTDIR"] = path.Dir(s.file("zsh/.zshenv", zshEnv))
	}
	if asked {
		return
	}
	switch path.Base(s.who.shell) {
	case "bash":
		s.spec.Command = append(s.spec.Command, "--rcfile", s.file("bashrc", bashRC))
	case "fish":
		s.spec.Command = append(s.spec.Command, "--init-command", fishInit)
	}
}

// terminfo are the folders that terminals are described in.
var terminfo = []string{"/etc/terminfo", "/lib/terminfo", "/usr/lib/terminfo", "/usr/share/terminfo"}

// knownTerminal is the terminal's kind, or one like it where the target has never
// heard of that: an old system doesn't know the terminals of today.
func knownTerminal(root rootView, term string) string {
	if term == "" || strings.ContainsAny(term, "/\x00") {
		return ""
	}
	known := func(name string) bool {
		for _, dir := range terminfo {
			if root.has(dir + "/" + name[:1] + "/" + name) {
				return true
			}
		}
		return false
	}
	like := []string{term}
	if strings.HasPrefix(term, "tmux") || strings.HasPrefix(term, "screen") {
		like = append(like, "screen-256color", "screen")
	}
	for _, name := range append(like, "xterm-256color", "xterm", "vt100", "linux", "dumb") {
		if known(name) {
			return name
		}
	}
	return term // nothing is described there: whatever runs knows its own
}
