package main

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// class says what must become of a host's path.
type class int

const (
	kept     class = iota // comes back as it was
	optional              // may stay behind; if it came along, then as it was
	replaced              // stays behind; something else may take its place
)

// Paths that something else takes the place of, or nothing: they tell who a host is, or
// hold what only it may know.
var neverKept = patterns(
	`etc/(passwd|group|shadow|gshadow|subuid|subgid)-?`,
	`etc/(machine-id|hostname|mailname|hosts|resolv.conf|fstab|crypttab|mtab)`, `etc/iscsi/.*`,
	`var/lib/dbus/machine-id`, `etc/ssh/ssh_host_.*`, `etc/ssl/private/.+`, `etc/pki/tls/private/.+`,
	`etc/sudoers\.d/.+`, `etc/security/opasswd`, `etc/apt/auth\.conf(\.d/.+)?`, `etc/NetworkManager/system-connections/.+`,
	`etc/letsencrypt/.*`, `etc/krb5\.keytab`, `etc/(wireguard|openvpn)/.*`, `etc/ppp/.*-secrets`,
	`(.*/)?\.(netrc|pgpass|my\.cnf)`, `(.*/)?\.(ssh|aws|kube|docker|gnupg)(/.*)?`,
)

// Paths that programs make again by themselves.
var noise = patterns(
	`(.*/)?__pycache__(/.*)?`, `.*\.pyc`, `(.*/)?\.(bash|python|psql|lesshs)_?(history|t)`,
	`var/cache/.*`, `var/log/.*`, `var/lib/apt/lists/.*`, `etc/\.pwd\.lock`, `etc/apt/.*~`,
	`var/lib/dpkg/(lock.*|triggers/Lock|.*-old|available|updates/.*|parts/.*|tmp\.ci.*)`,
)

// Paths outside of every package that belong to the software all the same.
var made = patterns(`(usr|etc|opt|bin|sbin|lib[^/]*)(/.*)?`, `var/lib/dpkg(/.*)?`)

func patterns(all ...string) *regexp.Regexp {
	return regexp.MustCompile(`(?s)^(` + strings.Join(all, "|") + `)$`)
}

// classify sorts the paths of a host.
func classify(root string, host map[string]entry, planted []secret) (map[string]class, error) {
	owned, err := packagePaths(root, host)
	if err != nil {
		return nil, err
	}
	hidden := map[string]bool{}
	for _, s := range planted {
		hidden[s.path] = true
	}
	classes := map[string]class{}
	for p, e := range host {
		switch {
		case hidden[p] || neverKept.MatchString(p):
			classes[p] = replaced
		case owned[p]:
			classes[p] = kept
		case noise.MatchString(p):
			classes[p] = optional
		case made.MatchString(p) && e.kind() != syscall.S_IFSOCK && e.kind() != syscall.S_IFCHR && e.kind() != syscall.S_IFBLK:
			classes[p] = kept
		default:
			classes[p] = optional
		}
	}
	return classes, nil
}

// packagePaths are the paths that dpkg's records name, as they are on the disk: after
// diversions, and through links to folders.
func packagePaths(root string, host map[string]entry) (map[string]bool, error) {
	diverted, err := readDiversions(root)
	if err != nil {
		return nil, err
	}
	lists, err := filepath.Glob(filepath.Join(root, "var/lib/dpkg/info/*.list"))
	if err != nil {
		return nil, err
	}
	owned := map[string]bool{}
	for _, list := range lists {
		content, err := os.ReadFile(list)
		if err != nil {
			return nil, err
		}
		name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(list), ".list"), ":")
		for p := range strings.SplitSeq(strings.TrimSpace(string(content)), "\n") {
			if d, ok := diverted[p]; ok {
				owned[onDisk(p, host)] = true // whoever it belongs to now
				if d.by != name {
					p = d.to
				}
			}
			owned[onDisk(p, host)] = true
		}
	}
	return owned, nil
}

type diversion struct{ to, by string }

// readDiversions reads dpkg's triplets: a path, where it went, and the package whose own
// file is there instead, or a colon.
func readDiversions(root string) (map[string]diversion, error) {
	content, err := os.ReadFile(filepath.Join(root, "var/lib/dpkg/diversions"))
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	all := map[string]diversion{}
	for i := 0; i+2 < len(lines); i += 3 {
		all[lines[i]] = diversion{lines[i+1], lines[i+2]}
	}
	return all, nil
}

// onDisk follows the links among the folders of an absolute path, not the last one.
func onDisk(p string, host map[string]entry) string {
	for range 40 {
		p = strings.TrimPrefix(path.Clean(p), "/")
		moved := false
		for i, c := range p {
			if c != '/' {
				continue
			}
			if e := host[p[:i]]; e.kind() == syscall.S_IFLNK {
				target := e.target
				if !path.IsAbs(target) {
					target = path.Join("/", path.Dir(p[:i]), target)
				}
				p, moved = target+p[i:], true
				break
			}
		}
		if !moved {
			break
		}
	}
	if p == "" {
		return "."
	}
	return p
}
