package artifact

import (
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/artifact/object"
)

// opener is a program that calls dlopen.
func opener(change func(o *object.Object)) *object.Object {
	return programFile(func(o *object.Object) {
		o.Imports = []object.Import{{Name: "dlopen", Version: "GLIBC_2.2.5", File: "libc.so.6", Lazy: true}}
		if change != nil {
			change(o)
		}
	})
}

func TestDlopen(t *testing.T) {
	set := func(o *object.Object) *Set {
		return &Set{Files: []File{{Name: "app", Path: "/opt/app/app", Object: o, Executable: true}}}
	}
	expect(t, judged(t, acme(), set(opener(nil))), Unproven, "app calls dlopen", "dlopen = [")

	plugged := func() *Set {
		s := set(opener(nil))
		s.Files = append(s.Files, File{Name: "plug.so", Path: "/opt/app/plug.so", Object: libraryFile("", func(o *object.Object) {
			o.Imports = []object.Import{{Name: "host_data"}}
		})})
		return s
	}
	declared := set(opener(nil))
	declared.Declared = []string{"libz.so.1", "/opt/vendor/libvendor.so.2"}
	expect(t, judged(t, acme(), declared), Starts)
	declared.Declared = []string{"libgone.so.1"}
	expect(t, judged(t, acme(), declared), Fails, "stead.toml says that app loads libgone.so.1: acme@3 has none")
	plug := plugged()
	plug.Declared = []string{"/opt/app/plug.so"}
	expect(t, judged(t, acme(), plug), Unproven, "which needs host_data: nothing that app loads before has it")
	plug.Files[0].Object.Exports = exported("host_data")
	expect(t, judged(t, acme(), plug), Starts)
	declared.Declared = []string{}
	expect(t, judged(t, acme(), declared), Starts)

	tried := set(opener(nil))
	tried.Seen = map[string][]string{"/opt/app/app": {"libssl.so.3"}}
	expect(t, judged(t, acme(), tried), Fails, "in a trial app loaded libssl.so.3")
	tried.Seen = map[string][]string{"/opt/app/app": nil}
	expect(t, judged(t, acme(), tried), Starts)

	expect(t, judged(t, acme(), set(opener(func(o *object.Object) { o.Exports = exported("PyImport_ImportModule") }))), Starts, "Python loads")
	expect(t, judged(t, acme(), set(opener(func(o *object.Object) { o.Exports = exported("sqlite3_load_extension") }))), Unproven, "dlopen")
	// Names that anybody's program may have tell nothing.
	expect(t, judged(t, acme(), set(opener(func(o *object.Object) { o.Exports = exported("load_file", "register_callback") }))), Unproven, "dlopen")
	expect(t, alone(t, acme(), "/opt/libsqlite3.so.0", libraryFile("libsqlite3.so.0", func(o *object.Object) {
		o.Needed, o.Imports, o.Exports = []string{"libc.so.6"}, []object.Import{{Name: "dlopen"}}, exported("sqlite3_load_extension")
	})), Starts, "SQLite loads extensions")
}

func TestDlopenOfTheTargetIsItsOwnBusiness(t *testing.T) {
	target := acme()
	files := target.System.(made)
	files.add("/usr/lib64/libplugins.so.1", "", libraryFile("libplugins.so.1", func(o *object.Object) {
		o.Needed, o.Imports = []string{"libc.so.6"}, []object.Import{{Name: "dlopen", Lazy: true}}
	}))
	app := programFile(func(o *object.Object) { o.Needed = []string{"libplugins.so.1", "libc.so.6"} })
	expect(t, alone(t, target, "/opt/app/app", app), Starts)
	own := opener(nil)
	files.add("/usr/bin/own", "", own)
	expect(t, alone(t, target, "/usr/bin/own", own), Starts, "is acme@3's own")
}

func TestDlopenNotes(t *testing.T) {
	note := func(priority string, sonames ...string) *object.Object {
		return opener(func(o *object.Object) {
			o.Dlopen = []object.DlopenNote{{Feature: "compression", Priority: priority, Sonames: sonames}}
		})
	}
	expect(t, alone(t, acme(), "/opt/app", note("required", "libgone.so.2", "libz.so.1")), Starts)
	expect(t, alone(t, acme(), "/opt/app", note("recommended", "libgone.so.2")), Starts, "can do without libgone.so.2")
	expect(t, alone(t, acme(), "/opt/app", note("required", "libgone.so.2")), Fails, "required")
}

func TestQtPlatformPlugin(t *testing.T) {
	app := programFile(func(o *object.Object) {
		o.Needed = []string{"libQt5Gui.so.5", "libc.so.6"}
		o.Imports = []object.Import{{Name: "_ZN15QGuiApplicationC1ERiPPci"}}
	})
	target := func(plugins map[string]*object.Object) *Target {
		target := acme()
		files := target.System.(made)
		files.add("/usr/lib64/libQt5Gui.so.5", "libqt5gui5", libraryFile("libQt5Gui.so.5", func(o *object.Object) {
			o.Exports = exported("_ZN15QGuiApplicationC1ERiPPci")
		}))
		for name, o := range plugins {
			files.add("/usr/lib64/qt5/plugins/platforms/"+name, "libqt5gui5", o)
		}
		return target
	}
	broken := libraryFile("", func(o *object.Object) { o.Needed = []string{"libxcb.so.1"} })
	expect(t, alone(t, target(nil), "/opt/app", app), Fails, "acme@3 lacks Qt's platform plugin, which libQt5Gui.so.5 loads for app")
	expect(t, alone(t, target(map[string]*object.Object{"libqxcb.so": libraryFile("", nil)}), "/opt/app", app), Starts)
	expect(t, alone(t, target(map[string]*object.Object{"libqxcb.so": broken}), "/opt/app", app), Fails, "doesn't load", "libxcb.so.1")
	expect(t, alone(t, target(map[string]*object.Object{"libqoffscreen.so": libraryFile("", nil)}), "/opt/app", app), Unproven, "has to be asked for")

	console := programFile(func(o *object.Object) { o.Needed = []string{"libQt5Gui.so.5", "libc.so.6"} })
	expect(t, alone(t, target(nil), "/opt/app", console), Starts)

	shipped := &Set{Files: []File{
		{Name: "app", Path: "/opt/app/bin/app", Object: app, Executable: true},
		{Name: "qt.conf", Path: "/opt/app/bin/qt.conf", Head: []byte("[Paths]\nPrefix = ..\nPlugins = qt/plugins\n")},
		{Name: "libqxcb.so", Path: "/opt/app/qt/plugins/platforms/libqxcb.so", Object: libraryFile("", nil)},
	}}
	expect(t, judged(t, target(nil), shipped), Starts)
}

func TestServicesOfUsersAreTold(t *testing.T) {
	app := programFile(func(o *object.Object) { o.Imports = []object.Import{{Name: "getpwnam", Weak: true}} })
	expect(t, alone(t, acme(), "/opt/app", app), Starts, "there is no libnss_ldap.so.2")
}

// TestRulesAreWhole holds the tables that people read.
func TestRulesAreWhole(t *testing.T) {
	for _, k := range onDemand {
		if k.exports == "" && k.path == "" || k.why == "" {
			t.Errorf("%+v says too little", k)
		}
	}
	for _, r := range pluginRules {
		if len(r.calls) == 0 || len(r.folders) == 0 || len(r.files) == 0 || r.missing == "" || r.then == "" {
			t.Errorf("%s: says too little", r.name)
		}
		for _, f := range r.folders {
			if !strings.HasPrefix(f, "/") && !strings.HasPrefix(f, "{") {
				t.Errorf("%s: %s is nowhere", r.name, f)
			}
		}
	}
	for _, r := range moduleRules {
		for _, into := range r.into {
			if strings.Contains(into, "{1}") && r.version == nil {
				t.Errorf("%s: %s has no version", r.in, into)
			}
		}
	}
}
