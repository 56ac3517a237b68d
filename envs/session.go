package envs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/runtime"
)

// Made is an env that is ready on this machine: a release and its root filesystem.
type Made struct {
	Release Release
	Root    string // folder of the root filesystem
	// Identity is the lock's, which names the content of Root.
	Identity digest.Digest
	Host     lock.Host
}

// The homes that a session can have.
const (
	HomePrivate = "private" // one for each target, kept in the store
	HomeShared  = "shared"  // the developer's own
	HomeNone    = "none"    // gone with the session
)

// SessionOptions are what a person can choose about a session.
type SessionOptions struct {
	Command  []string // none: the user's shell
	AsRoot   bool     // root inside
	Home     string   // HomePrivate, HomeShared or HomeNone; "" is HomePrivate
	Network  runtime.Network
	Terminal bool
	Dir      string // where to start, on this machine; "" is the project
	Mounts   []runtime.Mount
	Env      map[string]string

	homeDir string // a home for this purpose, instead of Home
	source  string // what stands at the project's path; "" is the project
}

// sessionPath is where commands are looked for: what a login on the host finds,
// and the administrator's folders, which compilers' wrappers live in too.
const sessionPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// SessionSpec describes a session in an env for the person who runs stead: their
// uid and project, and everything else the target's. Nothing of their environment
// comes along but what is named here.
func SessionSpec(ctx context.Context, s *store.Store, env Made, p *Project, opts SessionOptions) (runtime.Spec, error) {
	spec := runtime.Spec{Name: env.Release.String(), Root: env.Root, Identity: env.Identity.String(), Scratch: ScratchDir(s), Hostname: env.Release.Target,
		Terminal: opts.Terminal, Network: opts.Network, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
		Umask: umask(env.Host.Umask), NoFile: uint64(max(env.Host.NoFile, 0)), Command: opts.Command}
	if err := os.MkdirAll(spec.Scratch, 0o700); err != nil {
		return spec, fmt.Errorf("making a folder for sessions: %w", err)
	}
	if opts.AsRoot {
		spec.UID, spec.GID = 0, 0
	}
	root, err := os.OpenRoot(env.Root)
	if err != nil {
		return spec, fmt.Errorf("opening %s: %w", env.Release, err)
	}
	defer root.Close()
	who := person(root, spec.UID, spec.GID)
	spec.Files = append(spec.Files, who.files...)
	if err := who.mountHome(&spec, s, env.Release.Target, opts); err != nil {
		return spec, err
	}
	if err := mountProject(&spec, root, p, opts); err != nil {
		return spec, err
	}
	spec.Mounts = append(spec.Mounts, opts.Mounts...)
	if spec.Dir == "" {
		spec.Dir = who.home
	}
	shell := who.findShell(root)
	if len(spec.Command) == 0 {
		spec.Command = []string{shell}
	}
	nameResolution(&spec)
	vars := map[string]string{"PATH": sessionPath, "HOME": who.home, "USER": who.name, "LOGNAME": who.name,
		"SHELL": shell, "LANG": env.Host.Locale, "STEAD_TARGET": env.Release.Target,
		"STEAD_RELEASE": strconv.Itoa(env.Release.Number)}
	if _, err := root.Lstat("etc/localtime"); err != nil {
		vars["TZ"] = env.Host.Timezone // a root with a localtime has the zone's own rules
	}
	if opts.Terminal {
		prompt(vars, env.Release.Target, shell)
	}
	if opts.Network == runtime.NetworkHost {
		proxies(vars)
	}
	if _, err := root.Lstat("usr/bin/git"); err == nil {
		gitIdentity(ctx, vars, p.Dir)
	}
	for name, value := range opts.Env {
		vars[name] = value
	}
	for name, value := range vars {
		if _, asked := opts.Env[name]; asked || value != "" {
			spec.Env = append(spec.Env, name+"="+value)
		}
	}
	slices.Sort(spec.Env)
	return spec, nil
}

// CheckRuns reports why this machine can't run programs of a release, before anything
// is fetched for it: its host may have another processor.
func CheckRuns(rel Release) error {
	text, err := rel.Text()
	if err != nil {
		return err
	}
	header, err := lock.ReadHeader(text)
	if err != nil {
		return fmt.Errorf("%s: %w", rel.Path, err)
	}
	if err := runtime.CheckArchitecture(header.Host.Architecture); err != nil {
		return fmt.Errorf("starting %s: %w", rel, err)
	}
	return nil
}

// ScratchDir is where sessions make their folders in a store.
func ScratchDir(s *store.Store) string { return filepath.Join(s.Dir(), "sessions") }

// umask reads the lock's spelling; what isn't known is 022, as most hosts have it.
func umask(s string) uint32 {
	n, err := strconv.ParseUint(s, 8, 9)
	if err != nil {
		return 0o022
	}
	return uint32(n)
}

// account is who somebody is inside.
type account struct {
	name, home, shell string
	files             []runtime.File // passwd and group, where the root doesn't know them
}

// person finds the account of a uid in a root. Where the root has none the
// developer's own name stands in, in a passwd of the session's own.
func person(root *os.Root, uid, gid uint32) account {
	own := account{name: "user", home: "/home/user"}
	if u, err := user.LookupId(strconv.Itoa(int(uid))); err == nil {
		own.name, own.home = u.Username, u.HomeDir
	}
	if home, err := homeDir(); err == nil && int(uid) == os.Getuid() {
		own.home = home
	}
	passwd, group := readRoot(root, "etc/passwd"), readRoot(root, "etc/group")
	id := strconv.Itoa(int(uid))
	if f := record(passwd, 2, id); len(f) >= 7 {
		own.name, own.home, own.shell = f[0], f[5], f[6]
		if !path.IsAbs(own.home) {
			own.home = "/"
		}
		return own
	}
	if !plain(own.name) || record(passwd, 0, own.name) != nil {
		own.name = "user" + id
	}
	if !path.IsAbs(own.home) || !plain(own.home) {
		own.home = "/home/" + own.name
	}
	line := fmt.Sprintf("%s:x:%d:%d::%s:\n", own.name, uid, gid, own.home)
	own.files = append(own.files, runtime.File{Path: "/etc/passwd", Content: appendLine(passwd, line)})
	if record(group, 2, strconv.Itoa(int(gid))) == nil {
		name := own.name
		if record(group, 0, name) != nil {
			name = "group" + strconv.Itoa(int(gid))
		}
		line := fmt.Sprintf("%s:x:%d:\n", name, gid)
		own.files = append(own.files, runtime.File{Path: "/etc/group", Content: appendLine(group, line)})
	}
	return own
}

// plain reports whether s can stand in a field of passwd.
func plain(s string) bool { return s != "" && !strings.ContainsAny(s, ":\n\x00") }

// record finds the line of passwd(5) or group(5) with value in a field.
func record(data []byte, field int, value string) []string {
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) > field && f[field] == value {
			return f
		}
	}
	return nil
}

func appendLine(data []byte, line string) []byte {
	data = slices.Clone(data)
	if len(data) > 0 && data[len(data)-1] != '\n' {
		data = append(data, '\n')
	}
	return append(data, line...)
}

// readRoot reads a small file of a root; it is nil where there is none.
func readRoot(root *os.Root, name string) []byte {
	fi, err := root.Stat(name)
	if err != nil || !fi.Mode().IsRegular() {
		return nil
	}
	f, err := root.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil
	}
	return data
}

// findShell is the account's own shell if it is there and lets one in, else bash
// or sh.
func (a account) findShell(root *os.Root) string {
	for _, shell := range []string{a.shell, "/bin/bash"} {
		if base := path.Base(shell); !path.IsAbs(shell) || base == "nologin" || base == "false" || base == "true" || base == "sync" {
			continue
		}
		if _, err := root.Lstat(strings.TrimPrefix(path.Clean(shell), "/")); err == nil {
			return shell
		}
	}
	return "/bin/sh"
}

// mountHome gives the session its home folder.
func (a account) mountHome(spec *runtime.Spec, s *store.Store, target string, opts SessionOptions) error {
	source := opts.homeDir
	if source == "" {
		switch cmp.Or(opts.Home, HomePrivate) {
		case HomePrivate:
			source = filepath.Join(s.Dir(), "homes", target)
		case HomeShared:
			home, err := homeDir()
			if err != nil {
				return err
			}
			source = home
		case HomeNone:
			var err error
			if source, err = s.WorkDir("home"); err != nil {
				return fmt.Errorf("making a home folder: %w", err)
			}
		default:
			return fmt.Errorf("unknown home %q: there are %s, %s and %s", opts.Home, HomePrivate, HomeShared, HomeNone)
		}
	}
	if err := os.MkdirAll(source, 0o700); err != nil {
		return fmt.Errorf("making a home folder: %w", err)
	}
	if a.home != "/" {
		spec.Mounts = append(spec.Mounts, runtime.Mount{Source: source, Target: a.home})
	}
	return nil
}

// systemDirs are folders that an env has of its own: a project there would hide
// the target's.
var systemDirs = []string{"/", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run",
	"/sbin", "/sys", "/usr", "/var"}

// mountProject shows the project at its own path. A folder that is no project, but
// only where somebody happens to stand, isn't shown when it is the system's, holds
// their home, or would hide what the target has there: an env is foreign code.
func mountProject(spec *runtime.Spec, root *os.Root, p *Project, opts SessionOptions) error {
	source := cmp.Or(opts.source, p.Dir)
	if slices.Contains(systemDirs, p.Dir) {
		if !p.Configured {
			return nil
		}
		return fmt.Errorf("showing project %s inside: it would hide the target's own %s", p.Dir, p.Dir)
	}
	if _, err := os.Lstat(filepath.Join(p.Dir, ".git")); err != nil && !p.Configured && filled(root, p.Dir) {
		return nil
	}
	if home, err := homeDir(); err == nil && !p.Configured {
		if rel, err := filepath.Rel(p.Dir, home); err == nil && filepath.IsLocal(rel) {
			return nil
		}
	}
	spec.Mounts = append(spec.Mounts, runtime.Mount{Source: source, Target: p.Dir})
	if opts.source != "" {
		git := filepath.Join(p.Dir, ".git")
		if _, err := os.Lstat(git); err == nil {
			spec.Mounts = append(spec.Mounts, runtime.Mount{Source: git, Target: git, ReadOnly: true})
		}
	}
	spec.Dir = p.Dir
	if rel, err := filepath.Rel(p.Dir, opts.Dir); err == nil && filepath.IsLocal(rel) {
		spec.Dir = opts.Dir
	}
	return nil
}

// filled reports whether a root has something in the folder dir.
func filled(root *os.Root, dir string) bool {
	f, err := root.Open(strings.TrimPrefix(dir, "/"))
	if err != nil {
		return false
	}
	defer f.Close()
	names, _ := f.Readdirnames(1)
	return len(names) > 0
}

// nameResolution gives the session this machine's resolver where it has this
// machine's network, and itself a name.
func nameResolution(spec *runtime.Spec) {
	hosts := []byte("127.0.0.1\tlocalhost\n::1\tlocalhost\n")
	if spec.Network == runtime.NetworkHost {
		if data, err := readBounded("/etc/hosts", maxConfig); err == nil {
			hosts = data
		}
		if data, err := readBounded("/etc/resolv.conf", maxConfig); err == nil {
			spec.Files = append(spec.Files, runtime.File{Path: "/etc/resolv.conf", Content: data})
		}
	}
	hosts = appendLine(hosts, "127.0.1.1\t"+spec.Hostname+"\n")
	spec.Files = append(spec.Files, runtime.File{Path: "/etc/hosts", Content: hosts})
}

// prompt passes the terminal's kind and names the env in the prompt, as far as
// variables can: shells that read no file of their own take PS1, and Debian's
// bash.bashrc puts debian_chroot before its own.
func prompt(vars map[string]string, target, shell string) {
	vars["TERM"] = os.Getenv("TERM")
	vars["COLORTERM"] = os.Getenv("COLORTERM")
	vars["debian_chroot"] = target
	vars["PS1"] = "(" + target + ") $ "
	if path.Base(shell) == "bash" {
		vars["PS1"] = "(" + target + `) \w\$ `
	}
}

func proxies(vars map[string]string) {
	for _, name := range []string{"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"} {
		for _, name := range []string{name, strings.ToUpper(name)} {
			vars[name] = os.Getenv(name)
		}
	}
}

// gitIdentity passes who the developer is to git, as the project's configuration
// has it, for commits made inside.
func gitIdentity(ctx context.Context, vars map[string]string, dir string) {
	out, err := gitOutput(ctx, dir, "config", "--null", "--get-regexp", `^user\.(name|email)$`)
	if err != nil {
		return // no git, or nothing set: then nobody is named inside either
	}
	for entry := range bytes.SplitSeq(out, []byte{0}) {
		key, value, _ := strings.Cut(string(entry), "\n")
		for _, role := range []string{"AUTHOR", "COMMITTER"} {
			switch key {
			case "user.name":
				vars["GIT_"+role+"_NAME"] = value
			case "user.email":
				vars["GIT_"+role+"_EMAIL"] = value
			}
		}
	}
}

func gitOutput(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	return cmd.Output()
}

// revision is the commit that the project is at; "" where there is none.
func revision(ctx context.Context, dir string) string {
	if _, err := os.Lstat(filepath.Join(dir, ".git")); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	out, err := gitOutput(ctx, dir, "rev-parse", "--verify", "--quiet", "HEAD")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
