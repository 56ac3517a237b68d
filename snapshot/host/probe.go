package host

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/stead-env/stead/snapshot"
)

// probed is what the first question tells.
type probed struct {
	tools
	uid, user, machine string
	live               snapshot.Live
	mounts             []mount // in the order of mounting
}

type mount struct{ path, kind string }

// maxProbe bounds the answer.
const maxProbe = 4 << 20

// readProbe reads the answer to the first question.
func readProbe(r io.Reader) (*probed, error) {
	p := &probed{tools: tools{have: map[string]bool{}}}
	var symbols snapshot.KernelSymbols
	in := bufio.NewScanner(io.LimitReader(r, maxProbe))
	in.Buffer(nil, 64<<10)
	for in.Scan() {
		key, value, _ := strings.Cut(in.Text(), " ")
		switch key {
		case "kernel":
			p.live.Kernel = value
		case "version":
			p.live.KernelVersion = version(value)
		case "call":
			symbols.Add(value)
		case "machine":
			p.machine = value
		case "uid":
			p.uid = value
		case "user":
			p.user = value
		case "have":
			p.have[value] = true
		case "cpu":
			p.live.CPU = cpuLevel(bufio.NewScanner(strings.NewReader(value)))
		case "mount":
			if m, ok := parseMount(value); ok {
				p.mounts = append(p.mounts, m)
			}
		case "end":
			p.live.SystemCalls = symbols.Calls()
			return p, p.usable()
		}
	}
	if err := in.Err(); err != nil && !errors.Is(err, errBroken) {
		return nil, fmt.Errorf("asking what is there: %w", err)
	}
	return nil, errBroken
}

// usable checks for what nothing takes the place of.
func (p *probed) usable() error {
	p.have["mounts"] = len(p.mounts) > 0
	if p.machine != "x86_64" {
		p.live.CPU = ""
	}
	p.root = p.uid == "0"
	for _, need := range []string{"tar", "xargs"} {
		if !p.have[need] {
			return &toolsError{need}
		}
	}
	if !p.have["find-printf"] && !p.have["stat-c"] {
		return &toolsError{"GNU find, or stat with -c,"}
	}
	return nil
}

type toolsError struct{ missing string }

func (e *toolsError) Error() string { return "reading the host: it has no " + e.missing }
func (e *toolsError) Hint() string {
	return "copy or mount its root, and give the folder"
}

// parseMount reads a line of /proc/self/mountinfo (proc(5)).
func parseMount(line string) (mount, bool) {
	head, tail, ok := strings.Cut(line, " - ")
	words := strings.Fields(head)
	if !ok || len(words) < 5 || !strings.HasPrefix(words[4], "/") {
		return mount{}, false
	}
	kind, _, _ := strings.Cut(tail, " ")
	return mount{unescapeOctal(words[4]), kind}, true
}

// unescapeOctal undoes the \ooo of mountinfo and getfattr.
func unescapeOctal(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && isOctal(s[i+1:i+4]) {
			b = append(b, (s[i+1]-'0')<<6|(s[i+2]-'0')<<3|(s[i+3]-'0'))
			i += 3
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

func isOctal(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '7' || i == 0 && s[i] > '3' {
			return false
		}
	}
	return true
}

// foreignKinds are the file systems of foreign, by the names that mount tables have for
// them, which are others for some.
var foreignKinds = func() map[string]bool {
	kinds := map[string]bool{"nfs4": true, "devtmpfs": true, "ramfs": true, "fuseblk": true, "ncpfs": true, "binder": true}
	for _, kind := range foreign {
		kinds[kind] = true
	}
	return kinds
}()

// foreignMounts are the folders below a root, relative to it, in which file systems
// begin that hold no file of the host itself.
func foreignMounts(mounts []mount, root string) []string {
	prefix := strings.TrimSuffix(root, "/") + "/"
	last := map[string]bool{} // whether what was mounted last is foreign
	var order []string
	for _, m := range mounts {
		p, ok := strings.CutPrefix(m.path, prefix)
		if !ok || !snapshot.ValidPath(p) || p == "." {
			continue
		}
		if _, known := last[p]; !known {
			order = append(order, p)
		}
		kind, _, _ := strings.Cut(m.kind, ".") // fuse.sshfs
		last[p] = foreignKinds[kind] || kind == "overlay" && strings.HasPrefix(p, "var/")
	}
	var list []string
	for _, p := range order {
		if last[p] {
			list = append(list, p)
		}
	}
	return list
}

// maxPrune bounds the words that tell find where not to go: busybox hands on 32 kB.
const maxPrune = 12 << 10

// prune makes the words of a find expression that leave folders out: their names, or, of
// too many, patterns (the layers of containers lie beside one another).
func prune(folders []string) ([]string, error) {
	for keep := 64; ; keep-- {
		words, size := pruneWords(folders, keep)
		if size <= maxPrune {
			return words, nil
		}
		if keep == 2 {
			return nil, fmt.Errorf("listing the host: it has %d mounted file systems of others", len(folders))
		}
	}
}

// pruneWords keeps that many leading elements of each path and puts * for the rest.
func pruneWords(folders []string, keep int) (words []string, size int) {
	seen := map[string]bool{}
	for _, p := range folders {
		parts := strings.Split(p, "/")
		for i, part := range parts {
			if parts[i] = escapeGlob(part); i >= keep && i+1 < len(parts) {
				parts[i] = "*"
			}
		}
		pattern := "./" + strings.Join(parts, "/")
		if seen[pattern] {
			continue
		}
		seen[pattern] = true
		if len(words) > 0 {
			words = append(words, "-o")
		}
		words = append(words, "-path", pattern)
		size += len(pattern) + 20
	}
	if len(words) == 0 {
		return nil, 0
	}
	return append(append([]string{"-type", "d", "("}, words...), ")", "-prune", "-o"), size
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}
