package main

import (
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/runtime"
)

// sessionFlags are what enter and run have in common.
type sessionFlags struct {
	noTools bool
	locked  bool
	engine  string
	session string
	home    string
	network string
	kernel  string
	mounts  []string
	devices []string
	env     []string
	root    *bool // nil where the flag isn't given
	display *bool
}

func (f *sessionFlags) add(flags *pflag.FlagSet) {
	addChoice(flags, &f.root, "root", "be root inside")
	addChoice(flags, &f.display, "display", "let programs inside show windows on your X11 or Wayland display")
	flags.StringVar(&f.home, "home", "", "home folder: private (one for each target; the default), shared (your own) or none")
	flags.StringVar(&f.network, "network", "", "network: host (the default) or none")
	flags.StringVar(&f.kernel, "kernel", "", "kernel that programs see: own (this machine's; the default) or target (its system calls and its release)")
	flags.StringArrayVar(&f.mounts, "mount", nil, `show a file or folder of this machine inside: SOURCE[:TARGET][:ro], with \: for a colon in a name`)
	flags.StringArrayVar(&f.devices, "device", nil, "show a device of this machine inside, or all in a folder: /dev/kvm, /dev/dri")
	flags.StringArrayVar(&f.env, "env", nil, "set a variable inside: NAME=VALUE, or NAME for this machine's value")
	flags.BoolVar(&f.locked, "locked", false, "fail where stead.lock doesn't match, and don't change it")
	noToolsFlag(flags, &f.noTools)
	engineFlag(flags, &f.engine)
}

// addChoice adds a flag for yes or no that knows whether it was given.
func addChoice(flags *pflag.FlagSet, to **bool, name, usage string) {
	flags.BoolFunc(name, usage, func(value string) error {
		yes := value == "true"
		if !yes && value != "false" {
			return usagef("it is true or false, not %q", value)
		}
		*to = &yes
		return nil
	})
}

// settings are what the flags choose. What can't be is a usage error.
func (f *sessionFlags) settings() (s envs.Settings, err error) {
	s = envs.Settings{Network: runtime.Network(f.network), Home: f.home, Kernel: f.kernel, Root: f.root, Display: f.display, Devices: f.devices}
	if key, text := s.Mistake(); key != "" {
		return s, usagef("--%s %s", strings.TrimSuffix(key, "s"), text)
	}
	for _, d := range f.devices {
		if err := envs.CheckDevice(d); err != nil {
			return s, usagef("--device %s: %w", d, err)
		}
	}
	dir, err := os.Getwd()
	if err != nil {
		return s, err
	}
	for _, text := range f.mounts {
		m, err := envs.ParseMount(text, dir)
		if err != nil {
			return s, usagef("--mount: %w", err)
		}
		if err := m.Check(); err != nil {
			return s, usagef("--mount %q: %w", text, err)
		}
		s.Mounts = append(s.Mounts, m)
	}
	s.Variables, err = variables(f.env)
	return s, err
}

// variables reads NAME=VALUE, or NAME for this machine's value, if it has one.
func variables(list []string) (map[string]string, error) {
	vars := map[string]string{}
	for _, s := range list {
		name, value, given := strings.Cut(s, "=")
		if name == "" {
			return nil, usagef("--env %q has no name", s)
		}
		if !given {
			if value, given = os.LookupEnv(name); !given {
				continue
			}
		}
		vars[name] = value
	}
	return vars, nil
}
