package artifact

import (
	"debug/elf"
	"testing"

	"github.com/stead-env/stead/envs/artifact/content"
	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

func requires(file string, versions ...string) object.Requirement {
	r := object.Requirement{File: file}
	for _, v := range versions {
		r.Versions = append(r.Versions, object.Required{Name: v})
	}
	return r
}

func TestProgramStarts(t *testing.T) {
	a := alone(t, acme(), "/opt/app/app", programFile(func(o *object.Object) {
		o.Versioned = true
		o.Needed = []string{"libz.so.1", "libc.so.6"}
		o.Requirements = []object.Requirement{requires("libc.so.6", "GLIBC_2.2.5")}
		o.Imports = []object.Import{{Name: "printf", Version: "GLIBC_2.2.5", File: "libc.so.6"}, {Name: "inflate", Lazy: true}}
	}))
	expect(t, a, Starts)
	if len(a.Needs) != 2 || a.Needs[0].Library != "libc.so.6" || a.Needs[0].Versions[0] != "GLIBC_2.2.5" ||
		a.Needs[0].Package != "libc6 2.31-13+deb11u11" || a.Needs[1].Symbols[0] != "inflate" {
		t.Errorf("it needs %+v", a.Needs)
	}
}

func TestMissingVersionSaysWhatForAndWhatIsThere(t *testing.T) {
	a := alone(t, acme(), "/opt/app/app", programFile(func(o *object.Object) {
		o.Versioned = true
		o.Requirements = []object.Requirement{requires("libc.so.6", "GLIBC_2.34")}
		o.Imports = []object.Import{{Name: "pthread_create", Version: "GLIBC_2.34", File: "libc.so.6"}}
	}))
	expect(t, a, Fails, "GLIBC_2.34", "for pthread_create", "goes up to GLIBC_2.30", "libc6 2.31-13+deb11u11", "build it in acme: stead build acme")
	if r := a.Reasons[0]; r.Version != "GLIBC_2.34" || r.Found != "/lib64/libc.so.6" || r.When != "load" {
		t.Errorf("the reason is %+v", r)
	}
}

func TestMissingLibrary(t *testing.T) {
	a := alone(t, acme(), "/opt/app/app", programFile(func(o *object.Object) { o.Needed = append(o.Needed, "libssl.so.3") }))
	expect(t, a, Fails, "acme@3 has no libssl.so.3", "it has libssl.so.1.1 (libssl1.1 1.1.1w-0+deb11u1)")
	a = alone(t, acme(), "/opt/app/app", programFile(func(o *object.Object) { o.Needed = append(o.Needed, "libvendor.so.2") }))
	expect(t, a, Fails, "which acme@3 has at /opt/vendor/libvendor.so.2, where app doesn't look")
	a = alone(t, acme(), "/opt/app/libapp.so", libraryFile("libapp.so", func(o *object.Object) { o.Needed = []string{"libvendor.so.2"} }))
	expect(t, a, Unproven, "whoever loads it must have loaded that before")
}

func TestMissingSymbol(t *testing.T) {
	lazy := programFile(func(o *object.Object) { o.Imports = []object.Import{{Name: "nowhere", Lazy: true}} })
	a := alone(t, acme(), "/opt/app/app", lazy)
	expect(t, a, Fails, "nowhere", "ends when it calls that")
	if a.Reasons[0].When != "call" {
		t.Errorf("it fails at %s", a.Reasons[0].When)
	}
	a = alone(t, acme(), "/opt/app/libapp.so", libraryFile("libapp.so", func(o *object.Object) {
		o.Needed = []string{"libc.so.6"}
		o.Imports = []object.Import{{Name: "from_host_a"}, {Name: "from_host_b"}}
	}))
	expect(t, a, Unproven, "from_host_a and from_host_b from whoever loads it")
	if len(a.Reasons[0].Symbols) != 2 {
		t.Errorf("it tells of %v", a.Reasons[0].Symbols)
	}
}

func TestMissingSymbolOfAnOlderLibrary(t *testing.T) {
	target := acme()
	target.System.(made).add("/usr/lib64/libgst.so.0", "", libraryFile("libgst.so.0", func(o *object.Object) {
		o.Exports = exported("gst_a", "gst_b", "gst_c", "gst_d", "gst_e", "other")
	}))
	a := alone(t, target, "/opt/app/libapp.so", libraryFile("libapp.so", func(o *object.Object) {
		o.Needed, o.Imports = []string{"libgst.so.0"}, []object.Import{{Name: "gst_f"}}
	}))
	expect(t, a, Unproven, "libgst.so.0 has others that begin with gst_", "build in acme@3")
}

func TestOtherMachine(t *testing.T) {
	a := alone(t, acme(), "/opt/app/app", programFile(func(o *object.Object) {
		o.Machine, o.Interp = elf.EM_AARCH64, "/lib/ld-linux-aarch64.so.1"
	}))
	expect(t, a, Fails, "arm64", "amd64")
	a = alone(t, acme(), "/opt/app/app", elfFile(func(o *object.Object) {
		o.Type, o.Dynamic, o.Machine = elf.ET_EXEC, false, elf.EM_AARCH64
	}))
	expect(t, a, Fails, "arm64")
	a = alone(t, acme(), "/opt/app/app", elfFile(func(o *object.Object) { o.Type, o.Dynamic = elf.ET_EXEC, false }))
	expect(t, a, Starts)
	a = alone(t, acme(), "/opt/app/app", programFile(func(o *object.Object) { o.Interp = "/lib/ld-musl-x86_64.so.1" }))
	expect(t, a, Fails, "has no /lib/ld-musl-x86_64.so.1", "link it statically")
	plain := func(change func(o *object.Object)) Answer {
		return alone(t, acme(), "/opt/app/app", elfFile(static(change)))
	}
	expect(t, plain(func(o *object.Object) { o.Class = elf.ELFCLASS32 }), Unproven, "x32")
	expect(t, plain(func(o *object.Object) { o.Data = elf.ELFDATA2MSB }), Fails, "big-endian amd64")
	expect(t, plain(func(o *object.Object) { o.Interp = "/lib64/ld-linux-x86-64.so.2" }), Unproven, "PT_DYNAMIC")
	expect(t, plain(func(o *object.Object) { o.Interp = "/lib/ld-uClibc.so.0" }), Fails, "has no /lib/ld-uClibc.so.0")
	expect(t, plain(func(o *object.Object) { o.Interp = "/bin/sh" }), Fails, "/bin/sh is no loader that is known")
	expect(t, plain(func(o *object.Object) { o.Interp = "ld.so" }), Unproven, "the folder that it is started in")
}

func TestKernelOfMuslIsNotAncient(t *testing.T) {
	target := acme()
	target.Host.Kernel = ""
	m := target.System.(made)
	m.loader = &system.Loader{Path: "/lib/ld-musl-x86_64.so.1", Family: system.Musl, Version: "1.2.5", Class: elf.ELFCLASS64, Machine: elf.EM_X86_64}
	target.System = m
	for floor, want := range map[uint32]Verdict{2: Starts, 17: Unproven} {
		expect(t, alone(t, target, "/opt/app", elfFile(static(func(o *object.Object) { o.Kernel = [3]uint32{3, floor} }))), want)
	}
}

func TestModeOfPrograms(t *testing.T) {
	for _, o := range []*object.Object{programFile(nil), elfFile(static(func(*object.Object) {}))} {
		set := &Set{Files: []File{{Name: "app", Path: "/opt/app/app", Object: o}}}
		expect(t, judged(t, acme(), set), Unproven, "its mode says so", "chmod +x app")
	}
	set := &Set{Files: []File{{Name: "liba.so", Path: "/opt/app/liba.so", Object: libraryFile("liba.so", nil)}}}
	expect(t, judged(t, acme(), set), Starts)
}

func TestMalformedNeverStarts(t *testing.T) {
	for _, reason := range []object.Reason{object.TooShort, object.NotELF, object.ByteOrder, object.NotLoadable, object.Damaged} {
		f := File{Name: "app", Path: "/opt/app/app", Err: &object.Error{Reason: reason}, Executable: true, Head: []byte("\x7fELF")}
		if a := judged(t, acme(), &Set{Files: []File{f}}); a.Verdict == Starts {
			t.Errorf("%s: it starts", reason)
		}
	}
}

func TestKernelAndProcessor(t *testing.T) {
	for name, c := range map[string]struct {
		kernel, cpu string
		change      func(o *object.Object)
		want        Verdict
		words       string
	}{
		"its kernel does":           {"5.10.0-28-amd64", "", func(o *object.Object) { o.Kernel = [3]uint32{5, 10, 0} }, Starts, ""},
		"a newer kernel":            {"5.10.0-28-amd64", "", func(o *object.Object) { o.Kernel = [3]uint32{5, 11, 0} }, Fails, "asks for Linux 5.11"},
		"no known kernel":           {"", "", func(o *object.Object) { o.Kernel = [3]uint32{3, 17, 0} }, Unproven, "kernel isn't known"},
		"libc's own floor":          {"", "", func(o *object.Object) { o.Kernel = [3]uint32{3, 2, 0} }, Starts, ""},
		"Go on an old kernel":       {"2.6.32-754.el6", "", static(func(o *object.Object) { o.Go = "go1.24.1" }), Fails, "Linux 3.2 (Go 1.24.1)"},
		"an older Go":               {"2.6.32-754.el6", "", static(func(o *object.Object) { o.Go = "go1.21.3" }), Starts, ""},
		"Rust on an old kernel":     {"2.6.32-754.el6", "", static(func(o *object.Object) { o.Compiler = "rustc version 1.75.0" }), Fails, "Rust 1.75.0"},
		"a higher GOAMD64":          {"5.10", "x86-64-v2", func(o *object.Object) { o.Go, o.GoLevel = "go1.24.1", "v3" }, Fails, "GOAMD64=v3"},
		"a GOAMD64 that is there":   {"5.10", "x86-64-v3", func(o *object.Object) { o.Go, o.GoLevel = "go1.24.1", "v3" }, Starts, ""},
		"a note, and no known CPU":  {"5.10", "", func(o *object.Object) { o.ISA = 1 | 4 }, Unproven, "x86-64-v3"},
		"a note for everybody":      {"5.10", "", func(o *object.Object) { o.ISA = 1 }, Starts, ""},
		"a note that it can't meet": {"5.10", "x86-64-v2", func(o *object.Object) { o.ISA = 8 }, Fails, "x86-64-v4"},
	} {
		t.Run(name, func(t *testing.T) {
			target := acme()
			target.Host.Kernel, target.Host.CPU = c.kernel, c.cpu
			expect(t, alone(t, target, "/opt/app/app", programFile(c.change)), c.want, c.words)
		})
	}
}

// static makes a program of one that needs no loader.
func static(change func(o *object.Object)) func(o *object.Object) {
	return func(o *object.Object) {
		o.Type, o.Dynamic, o.Interp, o.Needed = elf.ET_EXEC, false, "", nil
		change(o)
	}
}

func TestLibrariesTravel(t *testing.T) {
	app := programFile(func(o *object.Object) {
		o.Needed, o.RunPath = []string{"libown.so.1", "libc.so.6"}, []string{"$ORIGIN/../lib"}
	})
	lib := libraryFile("libown.so.1", nil)
	set := &Set{Files: []File{
		{Name: "dist: bin/app", Path: "/opt/app/bin/app", Object: app, Executable: true},
		{Name: "dist: lib/libown.so.1.2", Path: "/opt/app/lib/libown.so.1.2", Object: lib},
		{Name: "dist: lib/libown.so.1", Path: "/opt/app/lib/libown.so.1", Link: "libown.so.1.2"},
	}}
	a := judged(t, acme(), set)
	expect(t, a, Starts)
	if len(a.Travels) != 1 || a.Travels[0] != "dist: lib/libown.so.1.2" {
		t.Errorf("it travels with %v", a.Travels)
	}
	lost := *app
	lost.RunPath = nil
	set.Files[0].Object = &lost
	expect(t, judged(t, acme(), set), Fails, "nothing leads it to /opt/app/lib/libown.so.1", "-Wl,-rpath,'$ORIGIN/../lib'")
	set.Alone = true
	set.Files[0].Object = app
	expect(t, judged(t, acme(), set), Fails, "acme@3 has no libown.so.1")
}

func TestPathsThatDependOnTheFolderOfTheStart(t *testing.T) {
	set := func(runpath []string, needed string) *Set {
		return &Set{Files: []File{
			{Name: "app", Path: "/opt/bin/app", Executable: true, Object: programFile(func(o *object.Object) { o.RunPath, o.Needed = runpath, []string{needed} })},
			{Name: "libown.so.1", Path: "/opt/lib/libown.so.1", Object: libraryFile("", nil)},
		}}
	}
	expect(t, judged(t, acme(), set([]string{"lib"}, "libown.so.1")), Unproven, "the folder that it is started in", "$ORIGIN/../lib")
	expect(t, judged(t, acme(), set([]string{"/srv", ""}, "libown.so.1")), Unproven, "the folder that it is started in")
	expect(t, judged(t, acme(), set([]string{"/srv"}, "libown.so.1")), Fails, "nothing leads it")
	beside := set(nil, "libown.so.1")
	beside.Files[0].Path, beside.Files[1].Path = "/.stead-artifact/app", "/.stead-artifact/libown.so.1"
	expect(t, judged(t, acme(), beside), Fails, "leads it to libown.so.1,", "-Wl,-rpath,'$ORIGIN'")
	expect(t, judged(t, acme(), set(nil, "lib/libown.so.1")), Unproven, "-Wl,-soname,libown.so.1")
	expect(t, judged(t, acme(), set(nil, "/build/lib/libown.so.1")), Fails, "by that path", "-Wl,-soname,libown.so.1")
}

func TestLibrariesThatAProgramLoadsTogether(t *testing.T) {
	lib := File{Name: "libone.so", Path: "/opt/lib/libone.so", Object: libraryFile("libone.so", func(o *object.Object) {
		o.Needed, o.Imports = []string{"libtwo.so"}, []object.Import{{Name: "two"}}
	})}
	two := File{Name: "libtwo.so", Path: "/opt/lib/libtwo.so", Object: libraryFile("libtwo.so", func(o *object.Object) { o.Exports = exported("two") })}
	app := File{Name: "app", Path: "/opt/bin/app", Executable: true, Object: programFile(func(o *object.Object) {
		o.Needed, o.RunPath = []string{"libone.so", "libtwo.so", "libc.so.6"}, []string{"$ORIGIN/../lib"}
	})}
	expect(t, judged(t, acme(), &Set{Files: []File{lib, two, app}}), Starts, "but app, which loads both")
	expect(t, judged(t, acme(), &Set{Files: []File{app, two, lib}}), Starts)
	expect(t, judged(t, acme(), &Set{Files: []File{lib, two}}), Unproven, "must have loaded that before", "'$ORIGIN'")
	app.Object.Needed = []string{"libone.so", "libc.so.6"}
	expect(t, judged(t, acme(), &Set{Files: []File{lib, two, app}}), Unproven)
	expect(t, judged(t, acme(), &Set{Files: []File{app, two, lib}}), Fails, "libone.so needs libtwo.so")
}

func TestSetuidProgramsLoseOrigin(t *testing.T) {
	set := func(runpath string, setuid bool) *Set {
		return &Set{Files: []File{
			{Name: "app", Path: "/opt/bin/app", Executable: true, Setuid: setuid, Object: programFile(func(o *object.Object) {
				o.RunPath, o.Needed = []string{runpath}, []string{"libown.so.1", "libc.so.6"}
			})},
			{Name: "libown.so.1", Path: "/opt/lib/libown.so.1", Object: libraryFile("", nil)},
		}}
	}
	expect(t, judged(t, acme(), set("$ORIGIN/../lib", false)), Starts)
	expect(t, judged(t, acme(), set("$ORIGIN/../lib", true)), Unproven, "passes over", "-Wl,-rpath,/opt/lib")
	expect(t, judged(t, acme(), set("/opt/lib", true)), Starts)
}

func TestShadowedLibraryIsTheArtifactsFault(t *testing.T) {
	target := acme()
	target.System.(made).add("/usr/lib64/libuser.so.1", "libuser1", libraryFile("libuser.so.1", func(o *object.Object) {
		o.Needed, o.Imports = []string{"libz.so.1"}, []object.Import{{Name: "inflate", Lazy: true}}
	}))
	set := &Set{Files: []File{
		{Name: "app", Path: "/opt/app", Object: programFile(func(o *object.Object) {
			o.Needed, o.RunPath = []string{"libz.so.1", "libuser.so.1", "libc.so.6"}, []string{"$ORIGIN"}
		})},
		{Name: "libz.so.1", Path: "/opt/libz.so.1", Object: libraryFile("libz.so.1", nil)},
	}}
	expect(t, judged(t, target, set), Fails, "libuser.so.1 (libuser1) of acme@3 needs inflate")
}

func TestInstalledFilesAreTakenAsTheyAre(t *testing.T) {
	target := acme()
	plugin := libraryFile("plugin.so", func(o *object.Object) { o.Needed = []string{"libgone.so.1"} })
	target.System.(made).add("/usr/lib64/plugin.so", "coreutils", plugin)
	expect(t, alone(t, target, "/usr/lib64/plugin.so", plugin), Unproven, "own file, as it is installed there")
	other := libraryFile("plugin.so", func(o *object.Object) { o.Needed = []string{"libgone.so.1", "libz.so.1"} })
	other.Imports = []object.Import{{Name: "inflate"}}
	expect(t, alone(t, target, "/usr/lib64/plugin.so", other), Fails, "libgone.so.1")
}

func TestInstalledFilesFailForWhatIsLaidBesideThem(t *testing.T) {
	target := acme()
	plugin := libraryFile("plugin.so", func(o *object.Object) { o.Needed = []string{"libhelp.so.1"} })
	target.System.(made).add("/usr/lib64/plugin.so", "coreutils", plugin)
	target.System.(made).add("/usr/lib64/libhelp.so.1", "coreutils", libraryFile("libhelp.so.1", nil))
	set := &Set{Files: []File{
		{Name: "plugin.so", Path: "/usr/lib64/plugin.so", Object: plugin},
		{Name: "libhelp.so.1", Path: "/usr/lib64/libhelp.so.1", Object: libraryFile("libhelp.so.1", func(o *object.Object) {
			o.Needed = []string{"libgone.so.1"}
		})},
	}}
	expect(t, judged(t, target, set), Fails, "libgone.so.1")
}

func TestPackageTakesThePlaceOfItsOlderSelf(t *testing.T) {
	target := acme()
	target.System.(made).add("/usr/lib64/libhelp.so.1", "app:amd64", libraryFile("libhelp.so.1", nil))
	set := &Set{Files: []File{{Name: "app", Path: "/usr/bin/app", Executable: true, Object: programFile(func(o *object.Object) {
		o.Needed = []string{"libhelp.so.1", "libc.so.6"}
	})}}}
	expect(t, judged(t, target, set), Starts)
	for name, want := range map[string]Verdict{"app": Fails, "other": Starts} {
		set.Packages = []Package{{File: "app.deb", Format: content.Deb, Package: &content.Package{Name: name, Architecture: "amd64"}}}
		answers, err := target.Judge(t.Context(), set)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, answers[0], want)
	}
}

func TestInstalledScriptsAreTakenAsTheyAre(t *testing.T) {
	target := acme()
	m := target.System.(made)
	m.script("/usr/lib/cgi.py", "/usr/local/bin/python")
	f := m.files["/usr/lib/cgi.py"]
	f.Package = "libpython3.9-stdlib"
	m.files["/usr/lib/cgi.py"] = f
	set := &Set{Files: []File{{Name: "cgi.py", Path: "/usr/lib/cgi.py", Executable: true, Head: []byte("#! /usr/local/bin/python \n")}}}
	expect(t, judged(t, target, set), Unproven, "own file, as it is installed there")
	set.Files[0].Head = []byte("#! /usr/local/bin/python3\n")
	expect(t, judged(t, target, set), Fails, "/usr/local/bin/python3")
}

func TestOwnLoaderIsUnproven(t *testing.T) {
	set := &Set{Files: []File{
		{Name: "app", Path: "/opt/app/app", Object: programFile(func(o *object.Object) { o.Interp = "/opt/app/ld.so" })},
		{Name: "ld.so", Path: "/opt/app/ld.so", Object: libraryFile("ld.so", nil)},
	}}
	expect(t, judged(t, acme(), set), Unproven, "a loader of its own")
}

func TestReplacedLoaderIsUnproven(t *testing.T) {
	const ld = "/lib64/ld-linux-x86-64.so.2"
	set := &Set{Files: []File{
		{Name: "app", Path: "/opt/app/app", Executable: true, Object: programFile(nil)},
		{Name: "ld.so", Path: ld, Executable: true, Object: libraryFile("ld-linux-x86-64.so.2", nil)},
	}}
	expect(t, judged(t, acme(), set), Starts) // the same as there
	set.Files[1].Object = libraryFile("ld-linux-x86-64.so.2", func(o *object.Object) { o.Exports = exported("new") })
	expect(t, judged(t, acme(), set), Unproven, "brings a loader for app")
}

func TestUnknownPackagesAndInterpreters(t *testing.T) {
	target := acme()
	target.Facts = system.Facts{}
	a := alone(t, target, "/usr/lib/python3/dist-packages/x.cpython-311-x86_64-linux-gnu.so", libraryFile("", nil))
	expect(t, a, Unproven, "which interpreters acme@3 has isn't known")
}

func TestPluginOfAProgramThatTravels(t *testing.T) {
	set := &Set{Files: []File{
		{Name: "plugin.so", Path: "/opt/app/plugins/plugin.so", Object: libraryFile("", func(o *object.Object) {
			o.Imports = []object.Import{{Name: "app_register"}}
		})},
		{Name: "app", Path: "/opt/app/app", Object: programFile(func(o *object.Object) { o.Exports = exported("app_register") })},
	}}
	a := judged(t, acme(), set)
	expect(t, a, Starts)
	if a.Kind != Module || a.Into != "/opt/app/app" {
		t.Errorf("it is a %s, judged in %q", a.Kind, a.Into)
	}
	set.Files[0].Object.Imports = append(set.Files[0].Object.Imports, object.Import{Name: "app_vanished"})
	expect(t, judged(t, acme(), set), Unproven, "app_vanished, which neither a library that it names nor /opt/app/app has")
}

func TestAppImagesAreNotLookedInto(t *testing.T) {
	expect(t, alone(t, acme(), "/opt/x.AppImage", elfFile(func(o *object.Object) {
		o.Type, o.Dynamic, o.ABIVersion = elf.ET_EXEC, false, 'A'
	})), Unproven, "--appimage-extract")
}
