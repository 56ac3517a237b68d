package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// compare holds a made root against its host and reports every difference.
func compare(w io.Writer, hostRoot, envRoot string, planted []secret) (bool, error) {
	host, err := readDisk(hostRoot)
	if err != nil {
		return false, err
	}
	env, err := readDisk(envRoot)
	if err != nil {
		return false, err
	}
	classes, err := classify(hostRoot, host, planted)
	if err != nil {
		return false, err
	}
	total, same, wrong := 0, 0, 0
	report := func(path, what string) {
		wrong++
		fmt.Fprintf(w, "%q: %s\n", path, what)
	}
	hostLinks, envLinks := linkGroups(host, classes), linkGroups(env, classes)
	for _, p := range slices.Sorted(maps.Keys(host)) {
		e, there := env[p]
		c := classes[p]
		if c == replaced || c == optional && !there {
			continue
		}
		what := "is missing"
		if there {
			if what, err = difference(hostRoot, envRoot, host[p], e); err != nil {
				return false, err
			}
			if g, h := envLinks[p], hostLinks[p]; what == "" && g != h {
				what = fmt.Sprintf("is one file as %s, on the host as %s", g, h)
			}
		}
		if what != "" {
			report(p, what)
		}
		if c == kept {
			total++
			if what == "" {
				same++
			}
		}
	}
	for _, p := range slices.Sorted(maps.Keys(env)) {
		if _, ok := host[p]; !ok && !neverKept.MatchString(p) {
			report(p, "is not on the host")
		}
	}
	accounts, err := checkAccounts(hostRoot, envRoot)
	if err != nil {
		return false, err
	}
	for _, what := range accounts {
		report("etc/passwd", what)
	}
	fmt.Fprintf(w, "%d paths kept: %d identical, %d differ\n", total, same, total-same)
	if extra := wrong - (total - same); extra > 0 {
		fmt.Fprintf(w, "%d other paths should not be there, or not like that\n", extra)
	}
	return total > 0 && wrong == 0, nil
}

// linkGroups names, for each kept path that is one file with others, all of them.
func linkGroups(all map[string]entry, classes map[string]class) map[string]string {
	groups := map[[2]uint64][]string{}
	for p, e := range all {
		if c, ok := classes[p]; ok && c == kept && e.kind() == syscall.S_IFREG {
			groups[e.inode] = append(groups[e.inode], p)
		}
	}
	named := map[string]string{}
	for _, group := range groups {
		slices.Sort(group)
		name := strings.Join(group, " = ")
		for _, p := range group {
			named[p] = name
		}
	}
	return named
}

// checkAccounts looks at what took the place of the account files: system users keep
// their numbers, nobody keeps a password, and people's homes are not named.
func checkAccounts(hostRoot, envRoot string) ([]string, error) {
	host, err := readAccounts(hostRoot, "passwd")
	if err != nil {
		return nil, err
	}
	env, err := readAccounts(envRoot, "passwd")
	if err != nil {
		return nil, err
	}
	shadow, err := readAccounts(envRoot, "shadow")
	if err != nil {
		return nil, err
	}
	var wrong []string
	for name, h := range host {
		e, ok := env[name]
		system := len(h[2]) < 4 || h[2] == "65534"
		switch {
		case system && !ok:
			wrong = append(wrong, "the system user "+name+" is missing")
		case ok && (h[2] != e[2] || h[3] != e[3]):
			wrong = append(wrong, name+" has another number")
		case ok && !system && h[5] == e[5]:
			wrong = append(wrong, "the person "+name+" came along with a home")
		case ok && strings.Contains(e[4], ","):
			wrong = append(wrong, name+" has a room or a telephone")
		}
	}
	for name, s := range shadow {
		if strings.Trim(s[1], "!*x") != "" {
			wrong = append(wrong, name+" has a password")
		}
	}
	return wrong, nil
}

// readAccounts reads a file of lines with colons, by first field.
func readAccounts(root, name string) (map[string][]string, error) {
	content, err := os.ReadFile(filepath.Join(root, "etc", name))
	if err != nil {
		return nil, err
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(content)) {
		if fields := strings.Split(strings.TrimSpace(line), ":"); len(fields) >= 7 {
			all[fields[0]] = fields
		}
	}
	return all, nil
}
