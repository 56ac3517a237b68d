package host

import (
	"path/filepath"
	"slices"
	"strings"
)

// Step is a command that runs on a host that is read by commands.
type Step struct {
	Purpose, Line string
}

// Commands are all that may run to read the host at an address, for people to look at:
// nothing is run. Paths come on stdin. Without an ssh address they are what sudo runs.
func Commands(address string) ([]Step, error) {
	full := tools{zip: strings.HasPrefix(address, "ssh:"), have: map[string]bool{}}
	for _, name := range []string{"nice", "ionice", "gzip", "getfattr", "find-printf", "gnu-tar", "sha256sum", "mounts"} {
		full.have[name] = true
	}
	line := func(t tools, script string) string {
		return quoted(append(t.before(), "sh", "-c", script, "stead", address))
	}
	if full.zip {
		c, err := parseSSH(address)
		if err != nil {
			return nil, err
		}
		socket := "$TMPDIR/stead-ssh-…/s"
		line = func(t tools, script string) string {
			return quoted(append([]string{"ssh"}, c.commandArgs(socket, t.commandLine(script))...))
		}
		steps := []Step{{"here: one connection for all that follows", quoted(append([]string{"ssh"}, c.masterArgs(socket)...))}}
		return append(steps, commands(full, line)...), nil
	}
	abs, err := filepath.Abs(address)
	if err != nil {
		return nil, err
	}
	address = abs
	full.root, full.sudo = true, true
	return commands(full, line), nil
}

func commands(full tools, line func(tools, string) string) []Step {
	first := tools{zip: full.zip, sudo: full.sudo}
	little := full
	little.have = map[string]bool{"gzip": true, "nice": true, "mounts": true}
	getcap := little
	getcap.have = map[string]bool{"gzip": true, "nice": true, "mounts": true, "getcap": true}
	asRoot := full
	asRoot.root, asRoot.sudo = true, true
	return []Step{
		{"what programs are there, who reads, kernel and its system calls, processor, mounts", line(first, probeScript)},
		{"the metadata of all files; what of foreign file systems is left out comes on stdin", line(full, full.listScript())},
		{"extended attributes", line(full, full.attributeScript())},
		{"without getfattr: capabilities", line(getcap, getcap.attributeScript())},
		{"without getfattr: the attributes of folders", line(full, full.folderScript())},
		{"the SHA-256 of files over 64 kB, which aren't sent if a copy is here", line(full, full.sumScript())},
		{"the contents of the files on stdin; root's reading leaves access times as they are, find's and sha256sum's goes by the mount's options",
			line(asRoot, asRoot.readScript(1000))},
		{"without GNU find: names", line(little, little.namesScript(""))},
		{"without GNU find: the names of links", line(little, little.namesScript("l"))},
		{"without GNU find: where links lead", line(little, little.linkScript())},
		{"without GNU find: metadata", line(little, little.statScript())},
		{"without GNU find and tar: contents", line(little, little.readScript(1000))},
	}
}

// quoted is a command as a person would type it.
func quoted(words []string) string {
	words = slices.Clone(words)
	for i, w := range words {
		if w == "" || strings.ContainsFunc(w, notPlain) {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

func notPlain(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_./=:@%+,$…", r)
}
