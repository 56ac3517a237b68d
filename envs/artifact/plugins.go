package artifact

import (
	"path"
	"strings"

	"github.com/stead-env/stead/envs/artifact/loader"
)

// pluginRule says what a library loads by rules of its own when a program calls certain
// functions of it.
type pluginRule struct {
	name    string
	library string   // its soname
	calls   []string // functions of it, any of which leads to the plugin
	// folders are where it looks: {lib} is the library's own folder, {app} the program's.
	folders []string
	files   []string // any of them does
	lesser  []string // and these where somebody asks for them by a variable
	missing Verdict  // what their absence comes to
	then    string   // what doesn't work then
}

var qtApplication = []string{
	"_ZN15QGuiApplicationC1ERiPPci", "_ZN15QGuiApplicationC2ERiPPci",
	"_ZN12QApplicationC1ERiPPci", "_ZN12QApplicationC2ERiPPci",
}

var qtPlatforms = []string{"libqxcb.so", "libqwayland.so", "libqwayland-generic.so", "libqwayland-egl.so",
	"libqeglfs.so", "libqlinuxfb.so"}

var qtLesser = []string{"libqoffscreen.so", "libqminimal.so", "libqvnc.so"}

// pluginRules are what is known of plugins without which something doesn't work.
var pluginRules = []pluginRule{
	{
		name: "Qt's platform plugin", library: "libQt5Gui.so.5", calls: qtApplication,
		folders: []string{"{app}/platforms", "{app}/plugins/platforms", "{app}/../plugins/platforms",
			"{lib}/qt5/plugins/platforms", "{lib}/qt/plugins/platforms", "{lib}/../plugins/platforms"},
		files: qtPlatforms, lesser: qtLesser, missing: Fails, then: "it ends at its start",
	},
	{
		name: "Qt's platform plugin", library: "libQt6Gui.so.6", calls: qtApplication,
		folders: []string{"{app}/platforms", "{app}/plugins/platforms", "{app}/../plugins/platforms",
			"{lib}/qt6/plugins/platforms", "{lib}/../plugins/platforms"},
		files: qtPlatforms, lesser: qtLesser, missing: Fails, then: "it ends at its start",
	},
	{
		name: "a driver for GL", library: "libGLX.so.0",
		calls:   []string{"glXChooseVisual", "glXChooseFBConfig", "glXCreateContext", "glXCreateNewContext"},
		folders: []string{"{lib}"},
		files:   []string{"libGLX_mesa.so.0", "libGLX_nvidia.so.0", "libGLX_system.so.0", "libGLX_indirect.so.0"},
		missing: Unproven, then: "it gets no context to draw in",
	},
	{
		name: "a driver for EGL", library: "libGLdispatch.so.0",
		calls:   []string{"eglInitialize", "eglGetDisplay", "eglGetPlatformDisplay"},
		folders: []string{"{lib}"}, files: []string{"libEGL_mesa.so.0", "libEGL_nvidia.so.0"},
		missing: Unproven, then: "it gets no display to draw on",
	},
	{
		name: "GStreamer's core plugin", library: "libgstreamer-1.0.so.0",
		calls:   []string{"gst_element_factory_make", "gst_element_factory_make_full", "gst_parse_launch"},
		folders: []string{"{lib}/gstreamer-1.0"}, files: []string{"libgstcoreelements.so"},
		missing: Unproven, then: "it finds no elements for its pipelines",
	},
	{
		name: "a PAM module", library: "libpam.so.0", calls: []string{"pam_start"},
		folders: []string{"{lib}/security", "{lib}/../security", "/lib/security", "/lib64/security", "/usr/lib64/security"},
		files:   []string{"pam_unix.so", "pam_sss.so", "pam_deny.so"},
		missing: Unproven, then: "it lets nobody in",
	},
	{
		name: "converters for iconv", library: "libc.so.6", calls: []string{"iconv_open"},
		folders: []string{"{lib}/gconv"}, files: []string{"gconv-modules", "UTF-16.so", "ISO8859-1.so"},
		missing: Starts, then: "it converts Unicode and ASCII alone",
	},
}

// userCalls lead to services of nsswitch.conf.
var userCalls = []string{"getpwnam", "getpwnam_r", "getpwuid", "getpwuid_r", "getgrnam", "getgrnam_r", "getgrgid",
	"getgrgid_r", "getgrouplist", "initgroups", "getaddrinfo", "gethostbyname", "gethostbyname_r"}

// builtinNSS are services that a C library has itself, in releases that are still met, and
// those that distributions name for netgroups whether they are there or not.
var builtinNSS = map[string]bool{"files": true, "dns": true, "compat": true, "db": true, "hesiod": true,
	"nis": true, "nisplus": true}

// checkPlugins judges what the target's libraries load for the artifact by their rules.
func (c *check) checkPlugins(res *loader.Result) {
	if res.Loader == nil {
		return
	}
	for i := range pluginRules {
		rule := &pluginRules[i]
		if lib := bySoname(res.Objects, rule.library); lib != nil && c.calls(res, rule.calls) {
			c.plugin(rule, lib)
		}
	}
	lib := bySoname(res.Objects, "libc.so.6")
	if lib == nil || !c.calls(res, userCalls) {
		return
	}
	for _, service := range c.Facts.NSS {
		if builtinNSS[service] {
			continue
		}
		name := "libnss_" + service + ".so.2"
		if _, there := c.sys.Find(path.Join(path.Dir(lib.File.Path), name)); !there && len(c.sys.Cached(name)) == 0 {
			c.remark("plugin", "%s's nsswitch.conf names %s, and there is no %s for %s: it sees no names from there",
				c.Name, service, name, c.name).Library = name
		}
	}
}

// calls tells whether an object of the artifact takes one of some functions.
func (c *check) calls(res *loader.Result, names []string) bool {
	for _, m := range res.Objects {
		if c.own(m) == nil {
			continue
		}
		for _, name := range names {
			if imports(m.Object, name) {
				return true
			}
		}
	}
	return false
}

// plugin looks for a rule's plugins, and whether one of them loads.
func (c *check) plugin(rule *pluginRule, lib *loader.Mapped) {
	real := lib.File.Path
	if real == "" {
		real = lib.Name
	}
	where := strings.NewReplacer("{lib}", path.Dir(real), "{app}", path.Dir(c.file.Path))
	folders := rule.folders
	if strings.HasPrefix(rule.library, "libQt") {
		folders = append(c.qtConf(), folders...)
	}
	bad, lesser := "", ""
	for _, folder := range folders {
		folder = path.Clean(where.Replace(folder))
		for _, name := range rule.files {
			problem, there := c.loadsPlugin(path.Join(folder, name))
			if there && problem == "" {
				return
			}
			if there && bad == "" {
				bad = path.Join(folder, name) + ": " + problem
			}
		}
		for _, name := range rule.lesser {
			if problem, there := c.loadsPlugin(path.Join(folder, name)); there && problem == "" && lesser == "" {
				lesser = path.Join(folder, name)
			}
		}
	}
	var r *Reason
	switch {
	case lesser != "":
		r = c.unproven("plugin", "%s has no %s for %s but %s, which has to be asked for", c.Name, rule.name, c.name, lesser)
	case bad != "":
		r = c.add(Reason{Verdict: rule.missing, Kind: "plugin"})
		r.Text = "the " + strings.TrimPrefix(rule.name, "a ") + " of " + c.Name + " doesn't load: " + bad
	default:
		r = c.add(Reason{Verdict: rule.missing, Kind: "plugin"})
		r.Text = c.Name + " lacks " + rule.name + ", which " + rule.library + " loads for " + c.name + ": " + rule.then
	}
	r.Library, r.When = rule.files[0], atCall
	if rule.missing == Fails {
		r.When = atLoad
	}
	r.way("add the plugin to the artifact")
}

// qtConf is where qt.conf beside a program says that plugins are.
func (c *check) qtConf() []string {
	if c.over == nil {
		return nil
	}
	dir := path.Dir(c.file.Path)
	f, _, ok := c.over.at(path.Join(dir, "qt.conf"))
	if !ok {
		return nil
	}
	prefix, plugins := ".", "plugins"
	for line := range strings.Lines(string(f.Head)) {
		key, value, _ := strings.Cut(line, "=")
		value = strings.Trim(strings.TrimSpace(value), `"`)
		switch strings.TrimSpace(key) {
		case "Prefix":
			prefix = value
		case "Plugins":
			plugins = value
		}
	}
	return []string{path.Join(join(join(dir, prefix), plugins), "platforms")}
}

// loadsPlugin tells whether a plugin is there, and what is in its way.
func (c *check) loadsPlugin(name string) (problem string, there bool) {
	f, ok := c.sys.Find(name)
	if !ok || f.Dir {
		return "", false
	}
	if f.Object == nil {
		return "", true
	}
	if _, err := f.Object(); err != nil {
		if !strings.HasSuffix(name, ".so") {
			return "", true // a text file that a rule names
		}
		return err.Error(), true
	}
	return c.reach(c.file.Object, c.file, name), true
}
