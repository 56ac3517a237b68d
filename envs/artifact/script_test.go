package artifact

import (
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/artifact/object"
)

func scriptOf(head string) *Set {
	return &Set{Files: []File{{Name: "run", Path: "/opt/app/run", Executable: true, Head: []byte(head)}}}
}

func TestScripts(t *testing.T) {
	for head, c := range map[string]struct {
		want  Verdict
		words string
	}{
		"#!/bin/sh\necho\n":                                {Starts, ""},
		"#! /bin/sh -e\n":                                  {Starts, ""},
		"#!/bin/sh":                                        {Starts, ""},
		"#!/usr/bin/env perl\n":                            {Starts, ""},
		"#!/usr/bin/env -S perl -w\n":                      {Starts, ""},
		"#!/usr/bin/env -S A=b perl -w\n":                  {Starts, ""},
		"#!/usr/bin/env perl -w\n":                         {Fails, `takes "perl -w" for one name`},
		"#!/usr/bin/env -i perl\n":                         {Unproven, "isn't followed"},
		"#!/usr/bin/env node\n":                            {Fails, "node, which acme@3 hasn't"},
		"#!/usr/bin/python3.11\n":                          {Fails, "acme@3 has python 3.9.2: #!/usr/bin/python3.9"},
		"#!/usr/local/bin/perl\n":                          {Fails, "acme@3 has it at /usr/bin/perl: #!/usr/bin/env perl"},
		"#!/bin/sh\r\n":                                    {Fails, "carriage return"},
		"#!/bin/sh -e\r\n":                                 {Fails, "carriage return"},
		"#!/usr/bin/perl -w\r\n":                           {Starts, ""},
		"#!perl\n":                                         {Unproven, "the folder that it is started in"},
		"#!\n":                                             {Fails, "names no interpreter"},
		"#!/usr/bin/wrapper\n":                             {Starts, ""},
		"#!/usr/bin/round\n":                               {Fails, "kernels give up"},
		"#!/usr/bin\n":                                     {Fails, "/usr/bin, which acme@3 hasn't"},
		"#!/" + strings.Repeat("a", 300) + "\n":            {Fails, "longer than the 255 bytes"},
		"#!/bin/sh " + strings.Repeat("a", 300) + "\n":     {Unproven, "the rest is cut off"},
		"#!/bin/sh -e" + strings.Repeat(" ", 300) + "\n":   {Starts, ""},
		"#!/bin/sh\x00 -e\n":                               {Starts, ""},
		"#!/usr/bin/env\n":                                 {Fails, "told no program"},
		"#!/usr/bin/env -S \"perl\" -w\n":                  {Unproven, "isn't followed"},
		"#!/usr/bin/env -S ${HOME}/perl\n":                 {Unproven, "isn't followed"},
		"echo\n":                                           {Unproven, "names no interpreter (#!)"},
		"MZ\x90\x00":                                       {Unproven, "Windows"},
		"#!/opt/app/run\n":                                 {Fails, ""},
		"\x00\x01\x02":                                     {Unproven, "neither a program"},
		"#!/usr/bin/env   \t perl\n":                       {Starts, ""},
		"#!" + strings.Repeat(" ", 200) + "/bin/sh\n":      {Starts, ""},
		"#!/bin/" + strings.Repeat("x", 90) + "\n":         {Fails, "which acme@3 hasn't"},
		"#!/usr/bin/env python3\nimport requests\n":        {Starts, ""},
		"#!/usr/bin/env --split-string=perl -w\n":          {Starts, ""},
		"#!/usr/bin/env -S\n":                              {Unproven, "isn't followed"},
		"#!/bin/sh\t-e\n" + strings.Repeat("#", HeadSize):  {Starts, ""},
		"#!/usr/bin/env /usr/bin/perl\n":                   {Starts, ""},
		"#!/usr/bin/env /usr/bin/ruby\n":                   {Fails, "ruby"},
		"#!/lib64/libc.so.6\n":                             {Starts, ""},
		"#!/usr/bin/env -S perl -I/usr/share/x -w --yes\n": {Starts, ""},
	} {
		expect(t, judged(t, acme(), scriptOf(head)), c.want, c.words)
	}
	target := acme()
	target.Host.Kernel = "4.19.0-26-amd64"
	expect(t, judged(t, target, scriptOf("#!/bin/"+strings.Repeat("a", 150)+"\n")), Fails, "127 bytes that Linux 4.19")
	target = acme()
	target.Facts.Packages[3].Version = "8.28-1ubuntu1"
	expect(t, judged(t, target, scriptOf("#!/usr/bin/env -S perl -w\n")), Fails, "doesn't know")
}

func TestScriptOfTheArtifactsOwnInterpreter(t *testing.T) {
	set := &Set{Files: []File{
		{Name: "run", Path: "/opt/app/run", Executable: true, Head: []byte("#!/opt/app/bin/interp\n")},
		{Name: "interp", Path: "/opt/app/bin/interp", Executable: true, Object: programFile(func(o *object.Object) {
			o.Needed = append(o.Needed, "libgone.so.3")
		})},
	}}
	expect(t, judged(t, acme(), set), Fails, "acme@3 has no libgone.so.3")
	set.Files[1].Object = programFile(nil)
	a := judged(t, acme(), set)
	expect(t, a, Starts)
	if len(a.Travels) != 1 {
		t.Errorf("it travels with %v", a.Travels)
	}
	set.Files[1].Executable = false
	expect(t, judged(t, acme(), set), Fails, "nobody execute")
}

func TestVirtualEnvironment(t *testing.T) {
	set := func(version string) *Set {
		return &Set{Files: []File{
			{Name: "app", Path: "/opt/venv/bin/app", Executable: true, Head: []byte("#!/opt/venv/bin/python3\n")},
			{Name: "python3", Path: "/opt/venv/bin/python3", Link: "/usr/bin/python3"},
			{Name: "pyvenv.cfg", Path: "/opt/venv/pyvenv.cfg", Head: []byte("home = /usr/bin\nversion = " + version + "\n")},
		}}
	}
	expect(t, judged(t, acme(), set("3.9.18")), Starts)
	expect(t, judged(t, acme(), set("3.11.2")), Fails, "virtual environment for Python 3.11", "Python 3.9 of acme@3")
	expect(t, judged(t, acme(), set("")), Unproven, "which Python")
}

func TestExtensionModules(t *testing.T) {
	const packages = "/usr/lib/python3/dist-packages/"
	module := func(needs ...string) *object.Object {
		return libraryFile("", func(o *object.Object) {
			o.Exports = exported("PyInit_fast")
			for _, n := range needs {
				o.Imports = append(o.Imports, object.Import{Name: n})
			}
		})
	}
	for name, c := range map[string]struct {
		o     *object.Object
		want  Verdict
		words string
	}{
		packages + "fast.cpython-39-x86_64-linux-gnu.so":       {module("Py_None"), Starts, ""},
		packages + "fast.cpython-311-x86_64-linux-gnu.so":      {module("Py_None"), Fails, "acme@3 has Python 3.9.2"},
		packages + "fast.abi3.so":                              {module("Py_None"), Starts, ""},
		packages + "new.abi3.so":                               {module("Py_None", "PyType_GetName"), Fails, "PyType_GetName"},
		packages + "fast.so":                                   {module("Py_None"), Starts, ""},
		packages + "fast.pypy39-pp73-x86_64-linux-gnu.so":      {module(), Unproven, "PyPy"},
		packages + "fast.libs/libbundled.so.1":                 {libraryFile("libbundled.so.1", nil), Starts, ""},
		"/usr/lib/python3.11/lib-dynload/fast.so":              {module(), Fails, "Python 3.11"},
		"/usr/lib/x86_64-linux-gnu/perl5/5.32/auto/A/A.so":     {libraryFile("", func(o *object.Object) { o.Imports = []object.Import{{Name: "Perl_newXS"}} }), Starts, ""},
		"/usr/lib/x86_64-linux-gnu/perl5/5.36/auto/A/A.so":     {libraryFile("", nil), Fails, "Perl 5.36"},
		"/usr/lib/postgresql/15/lib/plpgsql.so":                {libraryFile("", nil), Fails, "PostgreSQL 15"},
		"/usr/lib/apache2/modules/mod_x.so":                    {libraryFile("", func(o *object.Object) { o.Imports = []object.Import{{Name: "ap_x"}} }), Unproven, "ap_x from whoever loads it"},
		"/opt/node_modules/a/build/Release/a.node":             {libraryFile("", func(o *object.Object) { o.Imports = []object.Import{{Name: "napi_x"}} }), Unproven, "napi_x"},
		"/usr/lib/ruby/vendor_ruby/3.1.0/x86_64-linux/date.so": {libraryFile("", nil), Fails, "Ruby 3.1.0"},
		"/opt/node_modules/b/b.node":                           {libraryFile("", func(o *object.Object) { o.Imports = []object.Import{{Name: "node_module_register"}} }), Unproven, "V8's own interface"},
		"/usr/lib/jvm/java-17/lib/libnet.so":                   {libraryFile("libnet.so", func(o *object.Object) { o.Needed = []string{"libjvm.so"} }), Fails, "the Java machine of its own folder"},
	} {
		expect(t, alone(t, acme(), name, c.o), c.want, c.words)
	}
}

func TestShippedJava(t *testing.T) {
	set := &Set{Files: []File{
		{Name: "libjava.so", Path: "/opt/app/jre/lib/libjava.so", Object: libraryFile("libjava.so", func(o *object.Object) {
			o.Needed, o.Imports = []string{"libjvm.so"}, []object.Import{{Name: "JVM_Open"}}
		})},
		{Name: "libjvm.so", Path: "/opt/app/jre/lib/server/libjvm.so", Object: libraryFile("libjvm.so", func(o *object.Object) {
			o.Exports = exported("JVM_Open")
		})},
	}}
	a := judged(t, acme(), set)
	expect(t, a, Starts)
	if a.Into != "/opt/app/jre/lib/server/libjvm.so" {
		t.Errorf("it was judged in %q", a.Into)
	}
}

func TestModuleOfAnInterpreterThatTravels(t *testing.T) {
	set := &Set{Files: []File{
		{Name: "fast", Path: "/opt/py/lib/python3.12/site-packages/fast.cpython-312-x86_64-linux-gnu.so", Object: libraryFile("", func(o *object.Object) {
			o.Imports = []object.Import{{Name: "Py_New"}}
		})},
		{Name: "python3.12", Path: "/opt/py/bin/python3.12", Executable: true, Object: programFile(func(o *object.Object) {
			o.Exports = exported("Py_New")
		})},
	}}
	a := judged(t, acme(), set)
	expect(t, a, Starts)
	if a.Into != "/opt/py/bin/python3.12" {
		t.Errorf("it was judged in %q", a.Into)
	}
	set.Files[1].Object.Needed = []string{"libgone.so.1", "libc.so.6"}
	expect(t, judged(t, acme(), set), Fails, "which doesn't start on acme@3 itself")
}

func TestClassFiles(t *testing.T) {
	class := func(name string, major byte) File {
		return File{Name: name, Head: []byte{0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, major}}
	}
	jar := func(members ...File) *Set {
		return &Set{Files: []File{{Name: "app.jar", Path: "/opt/app.jar", Head: []byte("PK"), Members: members}}}
	}
	expect(t, judged(t, acme(), jar(class("A.class", 55))), Starts)
	expect(t, judged(t, acme(), jar(class("A.class", 52), class("B.class", 61))), Fails, "Java 17 (B.class)", "--release 11")
	expect(t, judged(t, acme(), jar(class("A.class", 52), class("META-INF/versions/21/A.class", 65))), Starts)
	plain := func(files ...File) *Set {
		for i := range files {
			files[i].Path = "/opt/" + files[i].Name
		}
		return &Set{Files: files}
	}
	expect(t, judged(t, acme(), plain(class("A.class", 55))), Starts)
	expect(t, judged(t, acme(), plain(class("A.class", 61))), Fails, "Java 17")
	expect(t, judged(t, acme(), plain(class("A.class", 55), class("B.class", 61))), Fails, "B.class is for Java 17")
	native := File{Name: "libx.so", Path: "/x/libx.so", Object: libraryFile("libx.so", func(o *object.Object) {
		o.Needed = []string{"libgone.so.1"}
	})}
	expect(t, judged(t, acme(), jar(class("A.class", 52), native)), Unproven, "in app.jar: acme@3 has no libgone.so.1")
}

// FuzzScript holds that no first line makes judging end but with an answer.
func FuzzScript(f *testing.F) {
	for _, head := range []string{"#!/bin/sh\n", "#!/usr/bin/env -S perl -w\n", "#!/usr/bin/round\n", "#! \t\r\n", "MZ", "#!/usr/bin/env -S A=b\n"} {
		f.Add([]byte(head))
	}
	target := acme()
	f.Fuzz(func(t *testing.T, head []byte) {
		if len(head) == 0 {
			return
		}
		a := judged(t, target, scriptOf(string(head[:min(len(head), HeadSize)])))
		if len(a.Reasons) == 0 && a.Verdict != Starts {
			t.Errorf("%s without a reason", a.Verdict)
		}
	})
}
