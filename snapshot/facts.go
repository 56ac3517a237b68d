package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

const (
	maxFact     = 1 << 20 // bytes of a file that facts are in
	limitsDir   = "etc/security/limits.d/"
	limitsConf  = "etc/security/limits.conf"
	kernelFiles = 1024 // the kernel's own soft limit of open files, INR_OPEN_CUR
)

// factFiles hold what a host says of itself; limits.d comes on top.
var factFiles = []string{"etc/os-release", "usr/lib/os-release", "etc/login.defs", "etc/default/locale",
	"etc/locale.conf", "etc/timezone", limitsConf}

// facts reads what the files of a root tell, and asks a running system for the
// rest. What isn't there is absent; what could not be read is listed as such.
func facts(ctx context.Context, host Host, inv *Inventory) (Facts, error) {
	live, err := host.Live(ctx)
	if err != nil {
		return Facts{}, fmt.Errorf("reading the running system: %w", err)
	}
	names := slices.Clone(factFiles)
	for _, e := range inv.Entries {
		if strings.HasPrefix(e.Path, limitsDir) && strings.HasSuffix(e.Path, ".conf") && e.Type != Dir {
			names = append(names, e.Path)
		}
	}
	text, err := readFacts(ctx, host, inv, names)
	if err != nil {
		return Facts{}, err
	}
	f := Facts{Architecture: inv.Database.Architecture, Libc: inv.Database.Libc, Kernel: live.Kernel,
		KernelVersion: live.KernelVersion, SystemCalls: live.SystemCalls, CPU: live.CPU}
	release := text["etc/os-release"]
	if release == "" {
		release = text["usr/lib/os-release"] // os-release(5)
	}
	f.release(release)
	f.Umask = umask(text["etc/login.defs"])
	f.Locale = shellVars(text["etc/default/locale"])["LANG"]
	if f.Locale == "" {
		f.Locale = shellVars(text["etc/locale.conf"])["LANG"]
	}
	f.Timezone = timezone(inv.Links["etc/localtime"], text["etc/timezone"])
	f.NoFile = nofile(text)
	return f, nil
}

// readFacts reads small files through the host's links, by the names given.
func readFacts(ctx context.Context, host Host, inv *Inventory, names []string) (map[string]string, error) {
	real := map[string][]string{}
	for _, n := range names {
		p := NewLinks(inv.Links).follow(n)
		real[p] = append(real[p], n)
	}
	text := map[string]string{}
	err := host.Read(ctx, slices.Sorted(maps.Keys(real)), func(p string, r io.Reader, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		var b []byte
		if err == nil {
			b, err = io.ReadAll(io.LimitReader(r, maxFact))
		}
		if err != nil {
			inv.Unreadable = append(inv.Unreadable, Left{Path: p, Reason: err.Error(), Files: 1})
			return nil
		}
		for _, n := range real[p] {
			text[n] = string(b)
		}
		return nil
	})
	return text, err
}

// release takes what os-release(5) says. Debian before 9 and others without a
// code name of its own have it in VERSION: "8 (jessie)".
func (f *Facts) release(text string) {
	v := shellVars(text)
	f.ID, f.Version, f.Codename = v["ID"], v["VERSION_ID"], v["VERSION_CODENAME"]
	if f.Codename == "" {
		f.Codename = v["UBUNTU_CODENAME"]
	}
	if _, after, ok := strings.Cut(v["VERSION"], "("); ok && f.Codename == "" {
		name, _, closed := strings.Cut(after, ")")
		if name = strings.ToLower(name); closed && !strings.ContainsAny(name, " ") {
			f.Codename = name
		}
	}
}

// OSRelease is the system that the text of os-release(5) names: "debian", "11".
func OSRelease(text string) (id, version string) {
	var f Facts
	f.release(text)
	return f.ID, f.Version
}

// shellVars reads assignments as a shell would, without running anything.
func shellVars(text string) map[string]string {
	vars := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimPrefix(strings.TrimSpace(line), "export ")
		name, value, ok := strings.Cut(line, "=")
		if !ok || name == "" || strings.HasPrefix(name, "#") || strings.ContainsAny(name, " \t") {
			continue
		}
		vars[name] = unquote(value)
	}
	return vars
}

func unquote(v string) string {
	v = strings.TrimSpace(v)
	if v == "" {
		return ""
	}
	switch q := v[0]; q {
	case '\'':
		v, _, _ = strings.Cut(v[1:], "'")
		return v
	case '"':
		var b strings.Builder
		for i := 1; i < len(v) && v[i] != '"'; i++ {
			if v[i] == '\\' && i+1 < len(v) && strings.IndexByte("$`\"\\", v[i+1]) >= 0 {
				i++
			}
			b.WriteByte(v[i])
		}
		return b.String()
	}
	v, _, _ = strings.Cut(v, " ")
	return v
}

// umask reads UMASK of login.defs(5), to four octal digits.
func umask(text string) string {
	for line := range strings.SplitSeq(text, "\n") {
		w := strings.Fields(line)
		if len(w) >= 2 && w[0] == "UMASK" {
			if n, err := strconv.ParseUint(w[1], 8, 32); err == nil && n <= 0o777 {
				return fmt.Sprintf("%04o", n)
			}
		}
	}
	return ""
}

// timezone reads the name out of where etc/localtime leads (localtime(5)), else
// Debian's etc/timezone.
func timezone(link, text string) string {
	if _, zone, ok := strings.Cut(link, "zoneinfo/"); ok {
		return path.Clean(strings.TrimPrefix(strings.TrimPrefix(zone, "posix/"), "right/"))
	}
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(line)
}

// nofile finds the soft limit of open files for everybody: limits.conf, then
// limits.d in the order of names, the last line wins (limits.conf(5)).
func nofile(text map[string]string) int {
	limit := kernelFiles
	var files []string
	for name := range text {
		if strings.HasPrefix(name, limitsDir) {
			files = append(files, name)
		}
	}
	slices.Sort(files)
	for _, name := range append([]string{limitsConf}, files...) {
		for line := range strings.SplitSeq(text[name], "\n") {
			line, _, _ = strings.Cut(line, "#")
			w := strings.Fields(line)
			if len(w) != 4 || w[0] != "*" || w[1] != "soft" && w[1] != "-" || w[2] != "nofile" {
				continue
			}
			switch n, err := strconv.Atoi(w[3]); {
			case err == nil && n > 0:
				limit = n
			case w[3] == "unlimited" || w[3] == "infinity" || w[3] == "-1":
				limit = 1 << 20 // fs.nr_open, above which the kernel gives none
			}
		}
	}
	return limit
}
