package envs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/snapshot"
)

// Made is an env that is ready on this machine: a release and its root filesystem.
type Made struct {
	Release Release
	Root    string // folder of the root filesystem
	// Identity is the lock's, which names the content of Root.
	Identity digest.Digest
	Host     lock.Host
	Header   lock.Header // tells of the kernel, where a session asks
	// Tools are laid over Root; nil for none.
	Tools *ToolsLayer
}

// SessionOptions are what a session is to be.
type SessionOptions struct {
	Settings
	Command  []string // none: a shell
	Upper    string   // of a named session: see Kept
	Terminal bool
	Dir      string // where to start, on this machine; "" is the project
	Progress snapshot.Progress
	SSHAgent bool         // with the network, the developer's ssh agent may be used
	Git      *GitIdentity // asked for before; nil: SessionSpec does

	homeDir string  // a home for this purpose, instead of Home
	source  string  // what stands at the project's path; "" is the project
	place   string  // where the project stands inside; "" is its own path
	own     []Mount // of stead's own making
}

// sessionPath is where commands are looked for: what a login on the host finds,
// and the administrator's folders, which compilers' wrappers live in too.
const sessionPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// sessionDir is where a session has files of its own.
const sessionDir = "/run/stead"

// sessionPlan is a session that is being put together.
type sessionPlan struct {
	SessionOptions
	store   *store.Store
	env     Made
	project *Project
	root    rootView
	who     account
	spec    runtime.Spec
	vars    map[string]string // "" stands for none
}

// SessionSpec describes a session in an env for the person who runs stead: their
// uid and project, and everything else the target's. Nothing of their environment
// comes along but what is named here.
func SessionSpec(ctx context.Context, s *store.Store, env Made, p *Project, opts SessionOptions) (runtime.Spec, error) {
	plan := &sessionPlan{SessionOptions: opts, store: s, env: env, project: p}
	plan.spec = runtime.Spec{Name: env.Release.String(), Root: env.Root, Identity: env.Identity.String(), Scratch: ScratchDir(s),
		Hostname: env.Release.Target, Terminal: opts.Terminal, Upper: opts.Upper, Network: opts.Network, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
		Umask: umask(env.Host.Umask), NoFile: uint64(max(env.Host.NoFile, 0)), Command: opts.Command}
	if err := os.MkdirAll(plan.spec.Scratch, 0o700); err != nil {
		return plan.spec, fmt.Errorf("making a folder for sessions: %w", err)
	}
	if isSet(opts.Root) {
		plan.spec.UID, plan.spec.GID = 0, 0
	}
	var err error
	if env.Tools != nil {
		plan.spec.Lower = []string{env.Tools.Path}
	}
	if plan.root, err = viewRoot(env.Root, opts.Upper, plan.spec.Lower...); err != nil {
		return plan.spec, fmt.Errorf("opening %s: %w", env.Release, err)
	}
	defer plan.root.close()
	if plan.Git == nil && opts.source == "" {
		plan.Git = AskGitIdentity(ctx, p)
	}
	plan.foresee()
	shell := os.Getenv("SHELL")
	if opts.source != "" {
		shell = "" // what is built doesn't depend on who builds it
	}
	plan.who = person(ctx, plan.root, plan.spec.UID, plan.spec.GID, shell)
	plan.spec.Files = append(plan.spec.Files, plan.who.files...)
	plan.variables()
	for _, add := range []func() error{
		plan.home, plan.showProject, plan.mounts, plan.devices, plan.display, plan.agent, plan.kernel, plan.hideStore,
	} {
		if err := add(); err != nil {
			return plan.spec, err
		}
	}
	plan.shell()
	plan.nameResolution()
	plan.certificates()
	plan.preferMounts()
	if opts.source == "" && plan.root.program("/usr/bin/git") { // nor on who it is that builds
		plan.Git.pass(plan.vars)
	}
	plan.spec.Env = plan.environment()
	return plan.spec, nil
}

// variables are those that every session has.
func (s *sessionPlan) variables() {
	s.vars = map[string]string{"PATH": sessionPath, "HOME": s.who.home, "USER": s.who.name, "LOGNAME": s.who.name,
		"SHELL": s.who.shell, "LANG": s.env.Host.Locale, "STEAD_TARGET": s.env.Release.Target,
		"STEAD_RELEASE": strconv.Itoa(s.env.Release.Number)}
	if !s.root.has("/etc/localtime") {
		s.vars["TZ"] = s.env.Host.Timezone // a root with a localtime has the zone's own rules
	}
	if s.Network == runtime.NetworkHost {
		proxies(s.vars)
	}
}

// environment is what the session starts with: what was asked for by name wins, set
// to nothing too.
func (s *sessionPlan) environment() []string {
	var env []string
	for name, value := range s.vars {
		if _, asked := s.Variables[name]; value != "" && !asked {
			env = append(env, name+"="+value)
		}
	}
	for name, value := range s.Variables {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	return env
}

// foresee says before a session starts what will end its programs without a word.
func (s *sessionPlan) foresee() {
	err := runtime.CheckVsyscall(s.env.Host.Libc, s.env.Host.Architecture)
	if err == nil {
		return
	}
	text := err.Error()
	if hinted, ok := errors.AsType[*runtime.Error](err); ok {
		text += "; " + hinted.Remedy
	}
	s.Progress.Note("starting", fmt.Sprintf("%s: %s", s.env.Release, text))
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

// home gives the session its home folder.
func (s *sessionPlan) home() error {
	source := s.homeDir
	if source == "" {
		switch cmp.Or(s.Home, HomePrivate) {
		case HomePrivate:
			source = filepath.Join(s.store.Dir(), "homes", s.env.Release.Target)
		case HomeShared:
			home, err := homeDir()
			if err != nil {
				return err
			}
			source = home
		case HomeNone:
			var err error
			if source, err = s.store.WorkDir("home"); err != nil {
				return fmt.Errorf("making a home folder: %w", err)
			}
		default:
			return fmt.Errorf("unknown home %q: there are %s, %s and %s", s.Home, HomePrivate, HomeShared, HomeNone)
		}
	}
	if err := os.MkdirAll(source, 0o700); err != nil {
		return fmt.Errorf("making a home folder: %w", err)
	}
	s.show(source, s.who.home, false)
	return nil
}

func (s *sessionPlan) show(source, target string, readOnly bool) {
	s.spec.Mounts = append(s.spec.Mounts, runtime.Mount{Source: source, Target: target, ReadOnly: readOnly})
}

// file gives the session a file of its own and returns its place.
func (s *sessionPlan) file(name, content string) string {
	at := sessionDir + "/" + name
	s.spec.Files = append(s.spec.Files, runtime.File{Path: at, Content: []byte(content)})
	return at
}

// systemDirs are folders that an env has of its own: a project there would hide
// the target's.
var systemDirs = []string{"/", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run",
	"/sbin", "/sys", "/usr", "/var"}

// showProject shows the project at its own path. A folder that is no project, but
// only where somebody happens to stand, isn't shown when it is the system's, holds
// their home, or would hide what the target has there: an env is foreign code.
func (s *sessionPlan) showProject() error {
	p := s.project
	s.spec.Dir = s.who.home
	if err := s.refuseStore("project "+p.Dir, p.Dir); err != nil {
		return err
	}
	leave := func(why string) error {
		s.Progress.Note("starting", fmt.Sprintf("%s isn't shown inside, %s: the session starts in %s", p.Dir, why, s.spec.Dir))
		return nil
	}
	if slices.Contains(systemDirs, p.Dir) {
		if !p.Configured {
			return leave("the target has its own")
		}
		return fmt.Errorf("showing project %s inside: it would hide the target's own %s", p.Dir, p.Dir)
	}
	if _, err := os.Lstat(filepath.Join(p.Dir, ".git")); err != nil && !p.Configured && s.root.filled(p.Dir) {
		return leave("the target has its own")
	}
	if home, err := homeDir(); err == nil && !p.Configured {
		if rel, err := filepath.Rel(p.Dir, home); err == nil && filepath.IsLocal(rel) {
			return leave("it holds your home and is no project (stead init makes it one)")
		}
	}
	place := cmp.Or(s.place, p.Dir)
	s.show(cmp.Or(s.source, p.Dir), place, false)
	if s.source != "" {
		git := filepath.Join(p.Dir, ".git")
		if _, err := os.Lstat(git); err == nil {
			s.show(git, filepath.Join(place, ".git"), true)
		}
	}
	s.spec.Dir = place
	if rel, err := filepath.Rel(p.Dir, s.Dir); err == nil && filepath.IsLocal(rel) {
		s.spec.Dir = s.Dir
	}
	return nil
}

// mounts shows what is asked for. Where two have the same place the later one, which
// the nearer choice made, is there.
func (s *sessionPlan) mounts() error {
	for _, m := range s.Mounts {
		if err := m.Check(); err != nil {
			return err
		}
		if err := s.refuseStore("mount "+m.Source, m.Source); err != nil {
			return err
		}
		s.spec.Mounts = append(s.spec.Mounts, m.inside(s.who.home))
	}
	for _, m := range s.own {
		s.spec.Mounts = append(s.spec.Mounts, m.inside(s.who.home))
	}
	return nil
}

// refuseStore refuses to show what lies in the store: a session that writes there
// would change the envs of others.
func (s *sessionPlan) refuseStore(what, source string) error {
	store, err := filepath.EvalSymlinks(s.store.Dir())
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(source); err == nil {
		source = real
	}
	if rel, err := filepath.Rel(store, source); err != nil || !filepath.IsLocal(rel) {
		return nil
	}
	return &runtime.Error{Op: "showing " + what + " inside", Code: runtime.CodeEngine,
		Err: fmt.Errorf("it is in the store, %s", store), Remedy: "work on a copy elsewhere"}
}

// hideStore covers the store with an empty folder where what is shown holds it, as a
// home does, or a CI job's project with a store to cache.
func (s *sessionPlan) hideStore() error {
	store, err := filepath.EvalSymlinks(s.store.Dir())
	if err != nil {
		return err
	}
	for _, m := range slices.Clone(s.spec.Mounts) {
		source, err := filepath.EvalSymlinks(m.Source)
		if err != nil {
			continue // the engine says what is wrong with it
		}
		rel, err := filepath.Rel(source, store)
		if err != nil || rel == "." || !filepath.IsLocal(rel) {
			continue
		}
		empty, err := s.store.WorkDir("hidden")
		if err != nil {
			return fmt.Errorf("making a folder for sessions: %w", err)
		}
		s.show(empty, filepath.Join(m.Target, rel), true)
	}
	return nil
}

// preferMounts leaves out a file of the session's own where the user shows another.
func (s *sessionPlan) preferMounts() {
	s.spec.Files = slices.DeleteFunc(s.spec.Files, func(f runtime.File) bool {
		return slices.ContainsFunc(s.Mounts, func(m Mount) bool { return m.Target == f.Path })
	})
}
