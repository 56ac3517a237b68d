package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Placement is what an engine decides about a session.
type Placement struct {
	Root string // where the writable root is mounted; "" leaves it to the engine
	// PID is the path of a PID namespace to join; "" makes one.
	PID string
	// Cgroup is the path of the session's cgroup, which guards this machine's devices;
	// without one the system call filter does, and mounts show none.
	Cgroup string
	// UserNamespace says that the engine is in one. No device node can be made: this
	// machine's own are mounted. So is what its network has in /sys.
	UserNamespace bool
	// OneUser says that there is only root, and so no group of terminals.
	OneUser bool
	// Become are the words before the command that root starts to have it run as the
	// session's user, where that one isn't there.
	Become []string
	// Filter is the system call filter, where it is made already; nil has OCI make it.
	Filter *specs.LinuxSeccomp
	// Rows and Columns are the terminal's size at the start, where there is one.
	Rows, Columns uint
}

// OCI builds the OCI runtime specification of a session. The mounts of spec must
// have been through MountPoints, its Files through WriteFiles.
func OCI(spec Spec, at Placement) (*specs.Spec, error) {
	if err := check(spec); err != nil {
		return nil, err
	}
	limits, err := rlimits(spec)
	if err != nil {
		return nil, err
	}
	umask := spec.Umask
	var size *specs.Box
	if spec.Terminal && at.Rows > 0 {
		size = &specs.Box{Height: at.Rows, Width: at.Columns}
	}
	s := &specs.Spec{
		Version:  "1.0.2",
		Hostname: spec.Hostname,
		Root:     &specs.Root{Path: at.Root},
		Process: &specs.Process{
			Terminal:    spec.Terminal,
			ConsoleSize: size,
			User:        specs.User{UID: spec.UID, GID: spec.GID, Umask: &umask, AdditionalGids: spec.Groups},
			Args:        spec.Command,
			Env:         spec.Env,
			Cwd:         path.Join("/", spec.Dir),
			Rlimits:     limits,
		},
		Mounts: mounts(spec, at),
		Linux: &specs.Linux{
			Namespaces:    namespaces(spec, at),
			CgroupsPath:   at.Cgroup,
			MaskedPaths:   maskedPaths,
			ReadonlyPaths: readonlyPaths,
		},
	}
	// No limits, but no devices either: who may make a device node must not be able to
	// open this machine's disk with it. Runtimes allow the usual ones. In a user
	// namespace nobody can make one.
	if at.Cgroup != "" && !at.UserNamespace {
		s.Linux.Resources = &specs.LinuxResources{
			Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
		}
	}
	if len(at.Become) > 0 {
		s.Process.Args = append(slices.Clone(at.Become), spec.Command...)
		s.Process.User.UID, s.Process.User.GID = 0, 0
	}
	if s.Hooks, err = spec.Kernel.hooks(); err != nil {
		return nil, err
	}
	if err := privileges(s, spec, at); err != nil {
		return nil, err
	}
	if s.Linux.Seccomp = at.Filter; at.Filter == nil {
		s.Linux.Seccomp, err = filter(s, spec, at)
	}
	return s, err
}

// Filter is the system call filter of a session for its specification, which engines can
// have made beside the mounts: it depends on none.
func Filter(spec Spec, at Placement) (*specs.LinuxSeccomp, error) {
	s := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}
	if err := privileges(s, spec, at); err != nil {
		return nil, err
	}
	return filter(s, spec, at)
}

// filter makes the filter for the privileges that s has.
func filter(s *specs.Spec, spec Spec, at Placement) (*specs.LinuxSeccomp, error) {
	made, err := seccompFilter(s, spec.Kernel, at.Cgroup == "" && !at.UserNamespace)
	if err != nil {
		return nil, fmt.Errorf("building the system call filter: %w", err)
	}
	if len(at.Become) > 0 {
		allowUserNamespace(made)
	}
	if spec.KeepOwners {
		pretend(made, "chown", "chown32", "fchown", "fchown32", "fchownat", "lchown", "lchown32")
	}
	return made, nil
}

// privileges gives the session its devices and capabilities.
func privileges(s *specs.Spec, spec Spec, at Placement) (err error) {
	if err := addDevices(s, spec, at.UserNamespace); err != nil {
		return err
	}
	if len(at.Become) > 0 {
		// Root's id is mapped by whoever could give files capabilities as root: user_namespaces(7).
		mapping := []string{"CAP_SETFCAP"}
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: mapping, Effective: mapping, Permitted: mapping}
		return nil
	}
	s.Process.Capabilities, err = capabilities(spec.UID)
	return err
}

// check refuses what JSON or a system call would silently change: the runtime
// specification is JSON, which has no bytes outside UTF-8.
func check(spec Spec) error {
	if len(spec.Command) == 0 || spec.Command[0] == "" {
		return &Error{Op: "starting " + spec.Name, Code: CodeNotFound, Err: errors.New("the command's name is empty")}
	}
	text := func(what string, values ...string) error {
		for _, v := range values {
			if !utf8.ValidString(v) || strings.IndexByte(v, 0) >= 0 {
				return &Error{Op: "starting " + spec.Name, Code: CodeEngine,
					Err:    fmt.Errorf("%s %q is not UTF-8 text", what, v),
					Remedy: "have a shell in the session make it: sh -c 'COMMAND \"$(printf \"\\377\")\"'"}
			}
		}
		return nil
	}
	for _, m := range spec.Mounts {
		if err := text("mount", m.Source, m.Target); err != nil {
			return err
		}
	}
	if err := text("argument", spec.Command...); err != nil {
		return err
	}
	if err := text("environment", spec.Env...); err != nil {
		return err
	}
	return text("folder", spec.Dir)
}

func namespaces(spec Spec, at Placement) []specs.LinuxNamespace {
	ns := []specs.LinuxNamespace{
		{Type: specs.MountNamespace},
		{Type: specs.PIDNamespace, Path: at.PID},
		{Type: specs.IPCNamespace},
		{Type: specs.UTSNamespace},
	}
	if spec.Network != NetworkHost {
		ns = append(ns, specs.LinuxNamespace{Type: specs.NetworkNamespace})
	}
	return ns
}

// The paths that container engines hide or protect, because they tell about or
// act on the whole machine.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
		"/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
	readonlyPaths = []string{
		"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
	}
)

func mounts(spec Spec, at Placement) []specs.Mount {
	sys := specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}}
	if at.UserNamespace && spec.Network == NetworkHost { // sysfs belongs to a network, and that one isn't ours
		sys = specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: append(bindOptions("/sys", true, false), "nosuid", "noexec", "nodev")}
	}
	terminals := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}
	if at.OneUser {
		terminals = terminals[:len(terminals)-1]
	}
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs",
			Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: terminals},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		sys,
	}
	for _, m := range spec.Mounts {
		options := bindOptions(m.Source, m.ReadOnly, at.Cgroup == "" && !at.UserNamespace)
		list = append(list, specs.Mount{Destination: m.Target, Type: "bind", Source: m.Source, Options: options})
	}
	return list
}

// addDevices gives the session the devices of this machine that it asks for.
func addDevices(s *specs.Spec, spec Spec, bind bool) error {
	for _, name := range spec.Devices {
		var st unix.Stat_t
		if err := unix.Stat(name, &st); err != nil {
			return &Error{Op: "showing device " + name, Code: CodeEngine, Err: err}
		}
		kind := map[uint32]string{unix.S_IFCHR: "c", unix.S_IFBLK: "b"}[st.Mode&unix.S_IFMT]
		if kind == "" {
			return &Error{Op: "showing device " + name, Code: CodeEngine, Err: errors.New("it is no device")}
		}
		if bind {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: name, Type: "bind", Source: name, Options: []string{"bind", "rprivate"}})
			continue
		}
		major, minor, mode := int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), os.FileMode(st.Mode&0o777)
		s.Linux.Devices = append(s.Linux.Devices,
			specs.LinuxDevice{Path: name, Type: kind, Major: major, Minor: minor, FileMode: &mode, UID: &st.Uid, GID: &st.Gid})
		if s.Linux.Resources != nil {
			s.Linux.Resources.Devices = append(s.Linux.Resources.Devices,
				specs.LinuxDeviceCgroup{Allow: true, Type: kind, Major: &major, Minor: &minor, Access: "rwm"})
		}
	}
	return nil
}

// bindOptions are the options of a mount of this machine's. What it has below a
// folder comes along; to change that too takes mount_setattr(2), Linux 5.12. Without
// it, mounts below a read-only folder are left out.
func bindOptions(source string, readOnly, noDevices bool) []string {
	info, err := os.Stat(source)
	folder := err == nil && info.IsDir()
	options := []string{"bind", "rprivate"}
	if folder && (!readOnly || recursive()) {
		options[0] = "rbind"
	}
	add := func(option string) {
		if options = append(options, option); folder && recursive() {
			options = append(options, "r"+option)
		}
	}
	if readOnly {
		add("ro")
	}
	if noDevices {
		add("nodev")
	}
	return options
}

// recursive reports whether mounts below a mount can be changed with it.
func recursive() bool { return unix.MountSetattr(-1, "", 0, &unix.MountAttr{}) != unix.ENOSYS }

// defaultCaps is the set that container engines give to root, with the numbers
// of linux/capability.h.
var defaultCaps = []struct {
	name string
	bit  uint
}{
	{"CAP_CHOWN", unix.CAP_CHOWN}, {"CAP_DAC_OVERRIDE", unix.CAP_DAC_OVERRIDE},
	{"CAP_FOWNER", unix.CAP_FOWNER}, {"CAP_FSETID", unix.CAP_FSETID},
	{"CAP_KILL", unix.CAP_KILL}, {"CAP_SETGID", unix.CAP_SETGID},
	{"CAP_SETUID", unix.CAP_SETUID}, {"CAP_SETPCAP", unix.CAP_SETPCAP},
	{"CAP_NET_BIND_SERVICE", unix.CAP_NET_BIND_SERVICE}, {"CAP_NET_RAW", unix.CAP_NET_RAW},
	{"CAP_SYS_CHROOT", unix.CAP_SYS_CHROOT}, {"CAP_MKNOD", unix.CAP_MKNOD},
	{"CAP_AUDIT_WRITE", unix.CAP_AUDIT_WRITE}, {"CAP_SETFCAP", unix.CAP_SETFCAP},
}

// capabilities is the default set, as far as this process has it. A user other
// than root gets it as a bound for setuid programs only.
func capabilities(uid uint32) (*specs.LinuxCapabilities, error) {
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil, fmt.Errorf("reading this process's capabilities: %w", err)
	}
	var names []string
	for _, c := range defaultCaps {
		if data[c.bit/32].Permitted&(1<<(c.bit%32)) != 0 {
			names = append(names, c.name)
		}
	}
	caps := &specs.LinuxCapabilities{Bounding: names}
	if uid == 0 {
		caps.Effective, caps.Permitted = names, slices.Clone(names)
	}
	return caps, nil
}

// rlimits asks for what can be had: without CAP_SYS_RESOURCE a hard limit can't
// be raised, and a soft one no higher than it.
func rlimits(spec Spec) ([]specs.POSIXRlimit, error) {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return nil, fmt.Errorf("reading the limit of open files: %w", err)
	}
	soft := spec.NoFile
	if soft == 0 {
		soft = 1024
	}
	return []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: min(soft, now.Max), Hard: now.Max}}, nil
}
