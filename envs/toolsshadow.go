package envs

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/snapshot"
)

// mayShadow reports whether a layer may have a path of the release in another form:
// records of the package manager and of its helpers, alternatives and ld.so.cache.
func mayShadow(p string) bool {
	for _, dir := range []string{"var/lib/dpkg/", "var/cache/debconf/", "var/lib/ucf/", "etc/alternatives/"} {
		if strings.HasPrefix(p, dir) {
			return true
		}
	}
	return p == "etc/ld.so.cache"
}

// litter are patterns of what installing leaves and nobody needs: logs, caches, locks,
// backups, byte code. One that ends in a slash is a folder with all that is in it.
var litter = []string{"dev/", "home/", "proc/", "root/", "run/", "sys/", "tmp/", "var/backups/", "var/cache/", "var/lib/apt/",
	"var/lib/dpkg/parts/", "var/lib/dpkg/tmp.ci/", "var/lib/dpkg/updates/", "var/lib/mlocate/", "var/log/", "var/tmp/",
	"etc/.pwd.lock", "etc/group-", "etc/gshadow-", "etc/ld.so.cache~", "etc/passwd-", "etc/shadow-", "etc/subgid-", "etc/subuid-",
	"var/cache/debconf/*-old", "var/lib/dpkg/*-old", "var/lib/dpkg/lock*", "var/lib/dpkg/triggers/Lock", "var/lib/ucf/*.[0-9]"}

func isLitter(p string) bool {
	if strings.HasSuffix(p, ".pyc") || strings.HasSuffix(p, ".pyo") || path.Base(p) == "__pycache__" {
		return true
	}
	records := p == "var/cache/debconf" || strings.HasPrefix(p, "var/cache/debconf/")
	return slices.ContainsFunc(litter, func(pattern string) bool {
		if dir, ok := strings.CutSuffix(pattern, "/"); ok {
			return (p == dir || strings.HasPrefix(p, pattern)) && !(records && pattern == "var/cache/")
		}
		ok, _ := filepath.Match(pattern, p)
		return ok
	})
}

// triggered are what triggers of packages make of many packages' files.
var triggered = []string{"etc/mailcap", "usr/lib/locale/locale-archive", "usr/share/applications/mimeinfo.cache",
	"usr/share/glib-2.0/schemas/gschemas.compiled", "usr/share/info/dir*", "usr/share/mime/", "var/lib/ghc/"}

func isTriggered(p string) bool {
	switch path.Base(p) {
	case "icon-theme.cache", "giomodule.cache", "gdk-pixbuf-loaders.cache", "loaders.cache", "immodules.cache":
		return true
	}
	return slices.ContainsFunc(triggered, func(pattern string) bool {
		ok, _ := filepath.Match(pattern, p)
		return ok || strings.HasSuffix(pattern, "/") && strings.HasPrefix(p, pattern)
	})
}

// accountFiles have a user or group on each line.
var accountFiles = []string{"etc/group", "etc/gshadow", "etc/passwd", "etc/shadow", "etc/subgid", "etc/subuid"}

// newAccounts are the names that a changed file has beside the release's own.
func (c *toolCapture) newAccounts(p string) (names []string) {
	was, err := viewRoot(c.base.Path, "")
	if err != nil {
		return nil
	}
	defer was.close()
	is, err := viewRoot(c.installer.changed(), "")
	if err != nil {
		return nil
	}
	defer is.close()
	old := image.ParseNames(was.read("/"+p), nil).Users
	for name := range image.ParseNames(is.read("/"+p), nil).Users {
		if _, there := old[name]; !there && !slices.Contains(c.accounts, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// report says what scripts did and the layer doesn't show.
func (c *toolCapture) report() {
	note := func(names []string, format string) {
		if len(names) == 0 {
			return
		}
		slices.Sort(names)
		c.cfg.Progress.Note("installing", fmt.Sprintf(format, some(names)))
	}
	slashed := func(paths []string) (all []string) {
		for _, p := range paths {
			all = append(all, "/"+p)
		}
		return all
	}
	if c.caches > 0 {
		c.cfg.Progress.Note("installing", fmt.Sprintf(
			"%d caches that the release's packages make by triggers stay as they are, without what the tools would add", c.caches))
	}
	note(slashed(c.kept), "scripts of tools changed what stays as the release has it: %s")
	note(c.accounts, "scripts of tools made users and groups that aren't added: %s")
	note(c.strangers(), "files of tools belong to ids without a name in the release: %s")
	note(slashed(c.secret), "scripts of tools made what each host has of its own, and it is left out: %s")
	note(slashed(c.odd), "scripts of tools made sockets or devices, which are left out: %s")
}

// strangers are owners of files that the release doesn't know.
func (c *toolCapture) strangers() (ids []string) {
	users, groups := map[uint32]bool{0: true}, map[uint32]bool{0: true}
	for _, id := range c.below.Names.Users {
		users[id] = true
	}
	for _, id := range c.below.Names.Groups {
		groups[id] = true
	}
	add := func(kind string, id uint32, known map[uint32]bool) {
		if !known[id] {
			known[id] = true
			ids = append(ids, fmt.Sprintf("%s %d", kind, id))
		}
	}
	for _, f := range c.made {
		if !isLitter(f.Path) {
			add("user", f.UID, users)
			add("group", f.GID, groups)
		}
	}
	return ids
}

// secretPath reports whether a path is one of identity or secrets by its name.
func secretPath(rules snapshot.Rules, f snapshot.File) bool {
	if rules == nil || f.Type == snapshot.Dir {
		return false
	}
	class, _ := rules.Path(f.Path, f.Type)
	return class == snapshot.Secret
}
