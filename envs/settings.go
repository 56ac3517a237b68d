package envs

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/stead-env/stead/runtime"
)

// Settings are what can be chosen about sessions: by flags, in [env] of stead.toml,
// and in [env] of the user's configuration. What one leaves out the next decides.
type Settings struct {
	Network      runtime.Network   `toml:"network"`
	Home         string            `toml:"home"`
	Root         *bool             `toml:"root"` // be root inside
	Kernel       string            `toml:"kernel"`
	Certificates string            `toml:"certificates"`
	Display      *bool             `toml:"display"`
	Mounts       []Mount           `toml:"mounts"`
	Devices      []string          `toml:"devices"`
	Variables    map[string]string `toml:"variables"`
}

// The homes that a session can have.
const (
	HomePrivate = "private" // one for each target, kept in the store
	HomeShared  = "shared"  // the developer's own
	HomeNone    = "none"    // gone with the session
)

// Whose kernel a session seems to run on, and whose certificates it trusts.
const (
	Own      = "own"    // this machine's
	OfTarget = "target" // the target's
)

// defaults are what nobody has to choose.
var defaults = Settings{Network: runtime.NetworkHost, Home: HomePrivate, Kernel: Own, Certificates: Own}

// Settings are those of a session for a target: flags win over stead.toml's
// [target.NAME.env], then its [env], then the user's own configuration.
func (p *Project) Settings(target string, user UserConfig, flags Settings) Settings {
	_, _, project := p.Config.For(target)
	return flags.over(project).over(user.Env).over(defaults)
}

// over is s, and t where s says nothing. Lists add up, s's at the end.
func (s Settings) over(t Settings) Settings {
	s.Network = cmp.Or(s.Network, t.Network)
	s.Home = cmp.Or(s.Home, t.Home)
	s.Root = cmp.Or(s.Root, t.Root)
	s.Kernel = cmp.Or(s.Kernel, t.Kernel)
	s.Certificates = cmp.Or(s.Certificates, t.Certificates)
	s.Display = cmp.Or(s.Display, t.Display)
	s.Mounts = slices.Concat(t.Mounts, s.Mounts)
	s.Devices = slices.Concat(t.Devices, s.Devices)
	variables := map[string]string{}
	maps.Copy(variables, t.Variables)
	maps.Copy(variables, s.Variables)
	s.Variables = variables
	return s
}

// replace is over for tables of one file, whose lists take the place of others.
func (s Settings) replace(t Settings) Settings {
	if s.Mounts != nil {
		t.Mounts = nil
	}
	if s.Devices != nil {
		t.Devices = nil
	}
	return s.over(t)
}

// envName is a name that a shell can use, as POSIX has it.
var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Mistake is the key of a value that can't be, and what is wrong with it; "" where
// there is none.
func (s Settings) Mistake() (key, text string) {
	for _, choice := range []struct {
		key, value, text string
		known            []string
	}{
		{"network", string(s.Network), "is host or none", []string{"host", "none"}},
		{"home", s.Home, "is private, shared or none", []string{HomePrivate, HomeShared, HomeNone}},
		{"kernel", s.Kernel, "is own or target", []string{Own, OfTarget}},
		{"certificates", s.Certificates, "is own or target", []string{Own, OfTarget}},
	} {
		if choice.value != "" && !slices.Contains(choice.known, choice.value) {
			return choice.key, fmt.Sprintf("%s, not %q", choice.text, choice.value)
		}
	}
	for _, d := range s.Devices {
		if !filepath.IsAbs(d) || strings.ContainsRune(d, 0) {
			return "devices", fmt.Sprintf("has %q, which is no absolute path", d)
		}
	}
	for name, value := range s.Variables {
		if !envName.MatchString(name) || strings.ContainsRune(value, 0) {
			return "variables", fmt.Sprintf("has %q, which can't be an environment variable", name)
		}
	}
	return "", ""
}

// settle checks the settings of a table of a file, and makes its mounts' sources
// absolute: they are relative to dir, unless that is "".
func (s *Settings) settle(path, text string, table toml.Key, dir string) error {
	wrong := func(key, what string) error {
		k := append(slices.Clone(table), key)
		return &SyntaxError{Path: path, Line: keyLine(text, k), Text: k.String() + " " + what}
	}
	if key, what := s.Mistake(); key != "" {
		return wrong(key, what)
	}
	for i := range s.Mounts {
		if err := s.Mounts[i].from(dir); err != nil {
			return wrong("mounts", "has "+err.Error())
		}
	}
	return nil
}

// Mount shows a file or folder of this machine in a session. It is written
// SOURCE[:TARGET][:ro], with \: for a colon in a name. ~/ begins a place in the
// home folder: in SOURCE the developer's own, in TARGET that of the session.
type Mount struct {
	runtime.Mount
	text string // as it was written
}

// ParseMount reads a mount. A relative SOURCE is below dir.
func ParseMount(text, dir string) (Mount, error) {
	var m Mount
	if err := m.UnmarshalText([]byte(text)); err != nil {
		return m, err
	}
	return m, m.from(dir)
}

// UnmarshalText reads a mount, but leaves SOURCE as it is written.
func (m *Mount) UnmarshalText(text []byte) error {
	*m = Mount{text: string(text)}
	parts := splitColons(m.text)
	if n := len(parts) - 1; n > 0 && (parts[n] == "ro" || parts[n] == "rw") {
		m.ReadOnly, parts = parts[n] == "ro", parts[:n]
	}
	if len(parts) > 2 || parts[0] == "" || strings.ContainsRune(m.text, 0) {
		return fmt.Errorf(`%q, which isn't SOURCE[:TARGET][:ro] with \: for a colon in a name`, text)
	}
	m.Source = parts[0]
	if len(parts) == 1 {
		return nil
	}
	m.Target = parts[1]
	if !filepath.IsAbs(m.Target) && !inHome(m.Target) {
		return fmt.Errorf("%q, whose place inside is no absolute path", text)
	}
	return nil
}

// splitColons parts s at its colons, but not at those after a backslash.
func splitColons(s string) []string {
	parts := []string{""}
	for i := 0; i < len(s); i++ {
		last := len(parts) - 1
		switch {
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == ':' || s[i+1] == '\\'):
			i++
			parts[last] += s[i : i+1]
		case s[i] == ':':
			parts = append(parts, "")
		default:
			parts[last] += s[i : i+1]
		}
	}
	return parts
}

func inHome(p string) bool { return p == "~" || strings.HasPrefix(p, "~/") }

// from makes the source absolute.
func (m *Mount) from(dir string) error {
	switch {
	case inHome(m.Source):
		home, err := homeDir()
		if err != nil {
			return err
		}
		m.Source = filepath.Join(home, m.Source[1:])
	case filepath.IsAbs(m.Source):
		m.Source = filepath.Clean(m.Source)
	case dir == "":
		return fmt.Errorf("%q, which is relative to nothing: begin it with / or ~/", m.text)
	default:
		m.Source = filepath.Join(dir, m.Source)
	}
	if m.Target == "" {
		m.Target = m.Source
	}
	return nil
}

// Check reports why a mount can't be made.
func (m Mount) Check() error {
	if _, err := os.Stat(m.Source); err != nil {
		return fmt.Errorf("mounting %s: %w", m.Source, cause(err))
	}
	return nil
}

// inside is the mount with its place in a session with that home.
func (m Mount) inside(home string) runtime.Mount {
	if inHome(m.Target) {
		m.Target = home + m.Target[1:]
	}
	m.Target = filepath.Clean(m.Target)
	return m.Mount
}

// isSet reports whether a choice was made, and for yes.
func isSet(choice *bool) bool { return choice != nil && *choice }
