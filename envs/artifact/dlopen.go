package artifact

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/artifact/loader"
	"github.com/stead-env/stead/envs/artifact/object"
)

// openers are the functions that load a library by a name that no header has, and how
// people know them.
var openers = [][2]string{
	{"dlopen", "dlopen"}, {"dlmopen", "dlmopen"},
	{"g_module_open", "g_module_open"}, {"g_module_open_full", "g_module_open_full"},
	{"lt_dlopen", "lt_dlopen"}, {"lt_dlopenadvise", "lt_dlopenadvise"}, {"lt_dlopenext", "lt_dlopenext"},
	{"apr_dso_load", "apr_dso_load"}, {"PR_LoadLibrary", "PR_LoadLibrary"}, {"SDL_LoadObject", "SDL_LoadObject"},
	{"uv_dlopen", "uv_dlopen"}, {"_ZN8QLibrary4loadEv", "QLibrary::load"},
	{"_ZN13QPluginLoader4loadEv", "QPluginLoader::load"}, {"_ZN13QPluginLoader8instanceEv", "QPluginLoader::instance"},
}

// known explains why objects that have a mark call dlopen, and that they start without.
type known struct {
	exports string // a symbol that such an object has, wherever it was built
	path    string // or a part of its path
	program bool   // programs too: it takes more than a library linked into one
	why     string
}

// onDemand load what others ask of them by name, or a feature once it is used: what is
// missing then is no matter of their start. The list is meant to be read and added to.
var onDemand = []known{
	{exports: "PyImport_ImportModule", program: true, why: "Python loads extension modules when a script imports them"},
	{exports: "PyInit__ctypes", why: "ctypes loads what a script names"},
	{exports: "PyInit__cffi_backend", why: "cffi loads what a script names"},
	{exports: "Perl_newXS", program: true, why: "Perl loads extension modules when a script uses them"},
	{exports: "ruby_init", program: true, why: "Ruby loads extensions when a script requires them"},
	{exports: "Tcl_CreateInterp", program: true, why: "Tcl loads packages when a script requires them"},
	{exports: "luaopen_package", program: true, why: "Lua loads modules when a script requires them"},
	{exports: "napi_module_register", program: true, why: "Node.js loads addons when a script requires them"},
	{exports: "JNI_CreateJavaVM", program: true, why: "Java's machine loads native libraries when a class asks"},
	{exports: "JLI_Launch", program: true, why: "Java's launcher loads its own machine beside it"},
	{path: "/jvm/", program: true, why: "a JDK's libraries load each other, and desktop features when they are used"},
	{exports: "zsh_main", program: true, why: "zsh loads modules when a script asks"},
	{exports: "gmk_eval", program: true, why: "make loads what a makefile's load directive names"},
	{exports: "_Z28invoke_plugin_callbacks_fulliPv", program: true, why: "gcc loads plugins that its command line names"},
	{exports: "bfd_openr", why: "binutils load the compiler's plugin for link-time optimization"},
	{exports: "SPI_connect", program: true, why: "PostgreSQL loads modules that its configuration or SQL name"},
	{exports: "ap_run_mpm", program: true, why: "Apache loads the modules that its configuration names"},
	{exports: "ngx_load_module", program: true, why: "nginx loads the modules that its configuration names"},
	{exports: "sqlite3_load_extension", why: "SQLite loads extensions that SQL names"},
	{exports: "mysql_client_find_plugin", why: "MySQL's client loads authentication plugins that a server asks for"},
	{exports: "g_module_open", why: "GLib's gmodule loads what its callers name"},
	{exports: "g_irepository_require", why: "GObject introspection loads what a type library names"},
	{exports: "gst_registry_scan_path", why: "GStreamer loads plugins of its folder"},
	{exports: "gdk_pixbuf_loader_new", why: "gdk-pixbuf loads the modules that its cache lists"},
	{exports: "gtk_init", why: "GTK loads the modules that its settings name"},
	{exports: "lt_dlopen", why: "libltdl loads what its callers name"},
	{exports: "apr_dso_load", why: "APR loads what its callers name"},
	{exports: "PR_LoadLibrary", why: "NSPR loads what its callers name"},
	{exports: "SDL_LoadObject", why: "SDL loads drivers that are there, and what its callers name"},
	{exports: "_ZN8QLibrary4loadEv", why: "Qt loads what its callers name, and plugins of its folder"},
	{exports: "FREEBL_GetVector", why: "NSS loads its own cipher library beside it"},
	{exports: "NSC_GetFunctionList", why: "NSS loads its own cipher library and database beside it"},
	{exports: "p11_kit_modules_load", why: "p11-kit loads the modules that its configuration names"},
	{exports: "DSO_load", why: "OpenSSL loads engines that its configuration names"},
	{exports: "OSSL_PROVIDER_load", why: "OpenSSL loads providers that its configuration names"},
	{exports: "sasl_client_init", why: "SASL loads mechanisms of its folder"},
	{exports: "krb5int_open_plugin", why: "Kerberos loads plugins that its configuration names"},
	{exports: "gss_init_sec_context", why: "GSSAPI loads the mechanisms that its configuration names"},
	{exports: "pam_start", why: "PAM loads the modules that its configuration names"},
	{exports: "nss_database_lookup", why: "the C library loads services that nsswitch.conf names"},
	{exports: "iconv_open", why: "the C library loads converters of its folder"},
	{exports: "xtables_find_match", why: "iptables load extensions of their folder"},
	{exports: "snd_dlopen", why: "ALSA loads plugins that its configuration names"},
	{exports: "XOpenDisplay", why: "Xlib loads its cursor library where that is there"},
	{exports: "__glDispatchInit", why: "libglvnd loads a vendor's driver"},
	{exports: "glXCreateContext", why: "GLX loads a vendor's driver"},
	{exports: "eglInitialize", why: "EGL loads a vendor's driver"},
	{exports: "gbm_create_device", why: "GBM loads a driver"},
	{exports: "__driDriverGetExtensions_swrast", why: "Mesa's drivers load others' when the hardware is there"},
	{path: "/dri/", why: "Mesa's drivers load others' when the hardware is there"},
	{exports: "LLVMCreateExecutionEngineForModule", why: "LLVM loads what its callers name"},
	{exports: "GOMP_parallel", why: "OpenMP loads offloading plugins for devices that are there"},
	{path: "/libicuuc.so", why: "ICU loads what its callers name"},
	{exports: "xmlModuleOpen", why: "libxml2 loads what its callers name"},
	{exports: "heif_load_plugin", why: "libheif loads codecs of its folder"},
	{path: "/libQt5", why: "Qt loads plugins of its folder, and OpenSSL or GL where they are there"},
	{path: "/libQt6", why: "Qt loads plugins of its folder, and OpenSSL or GL where they are there"},
	{exports: "g_io_modules_load_all_in_directory", why: "GIO loads the modules of its folder"},
	{exports: "gst_gl_context_new", why: "GStreamer loads GL where it is used"},
	{exports: "soup_session_new", why: "libsoup loads GSSAPI's library where a server asks for it"},
	{exports: "epoxy_glx_version", why: "libepoxy loads GL and EGL when they are used"},
	{exports: "glewInit", why: "GLEW loads GL when it is used"},
	{exports: "vkGetInstanceProcAddr", why: "Vulkan loads a vendor's driver"},
	{exports: "clGetPlatformIDs", why: "OpenCL loads a vendor's driver"},
	{exports: "vdp_device_create_x11", why: "VDPAU loads a vendor's driver"},
	{exports: "vaInitialize", why: "VA-API loads a vendor's driver"},
	{exports: "vaGetDisplayDRM", why: "VA-API loads a vendor's driver"},
	{exports: "v4l2_open", why: "libv4l2 loads plugins of its folder"},
	{exports: "DVDOpen", why: "libdvdread loads libdvdcss where that is there"},
	{exports: "bd_open", why: "libbluray loads libaacs and Java where they are there"},
	{exports: "caca_create_display", why: "libcaca loads plugins of its folder"},
	{exports: "jack_client_open", why: "JACK loads drivers of its folder"},
	{exports: "lilv_world_new", why: "lilv loads LV2 plugins that a host asks for"},
	{exports: "libvlc_new", why: "VLC loads plugins of its folder"},
	{exports: "vlc_object_delete", why: "VLC loads plugins of its folder"},
	{exports: "MagickCoreGenesis", why: "ImageMagick loads coders of its folder"},
	{exports: "new_aspell_speller", why: "aspell loads filters that its configuration names"},
	{exports: "enchant_broker_init", why: "enchant loads spell checkers of its folder"},
	{exports: "ldb_init", why: "ldb loads modules of its folder"},
	{exports: "px_proxy_factory_new", why: "libproxy loads modules of its folder"},
	{exports: "selinux_check_access", why: "libselinux loads its library for regular expressions"},
	{exports: "mnt_new_context", why: "libmount loads libcryptsetup for volumes that need it"},
	{exports: "SCardEstablishContext", why: "PC/SC loads the library that a variable names"},
	{exports: "uv_dlopen", why: "libuv loads what its callers name"},
	{exports: "dwfl_begin", why: "elfutils load debuginfod's client where that is there"},
	{exports: "initscr", why: "ncurses loads the mouse's library on a console"},
	{exports: "SLang_init_slang", why: "S-Lang loads modules when a script imports them"},
	{exports: "apu_dso_load", why: "APR loads drivers of its folder"},
	{exports: "apr_dbd_init", why: "APR loads drivers of its folder"},
	{exports: "x264_encoder_headers", why: "x264 loads OpenCL where that is there"},
	{exports: "sudo_dso_load_v1", why: "sudo loads the plugins that its configuration names"},
}

// checkDlopen judges what is loaded by name later. What the target's own libraries load is
// the target's business: their packages brought it.
func (c *check) checkDlopen(res *loader.Result) {
	for _, m := range res.Objects {
		f := c.own(m)
		if f == nil {
			continue
		}
		c.noted(m.Object, f)
		symbol, opener := opens(m.Object)
		if opener == "" || len(m.Object.Dlopen) > 0 {
			continue
		}
		c.opened(m.Object, f, symbol, opener)
	}
}

// opens is the function by which an object loads libraries by name; "" for none.
func opens(o *object.Object) (symbol, name string) {
	for _, opener := range openers {
		if imports(o, opener[0]) && !exports(o, opener[0]) {
			return opener[0], opener[1]
		}
	}
	return "", ""
}

// opened judges an object that calls dlopen.
func (c *check) opened(o *object.Object, f *File, symbol, opener string) {
	if c.set.Declared != nil {
		c.loads(o, f, c.set.Declared, "stead.toml says that %s loads %s")
		return
	}
	if seen, tried := c.set.Seen[c.file.Path]; tried {
		c.loads(o, f, seen, "in a trial %s loaded %s")
		return
	}
	if why := explained(o, f.Path); why != "" {
		c.remark("dlopen", "%s calls %s: %s", path.Base(f.Path), opener, why)
		return
	}
	if c.packaged(f) && c.unchanged(o, f) {
		c.remark("dlopen", "%s calls %s, and is %s's own: what it loads came with it", path.Base(f.Path), opener, c.Name)
		return
	}
	r := c.unproven("dlopen", "%s calls %s: what it loads by name isn't in its headers", path.Base(f.Path), opener)
	r.By, r.Symbol, r.When = f.Name, symbol, atCall
	r.way(`say what it loads in stead.toml: [build] dlopen = ["libexample.so.1"], or [] for nothing`)
	r.way("let it be seen: trial = [...] in stead.toml's [build]")
}

// explained says why an object calls dlopen, where a rule of the table knows.
func explained(o *object.Object, name string) string {
	for _, k := range onDemand {
		if !k.program && objectKind(o) == Program {
			continue
		}
		if k.exports != "" && exports(o, k.exports) || k.path != "" && strings.Contains(name, k.path) {
			return k.why
		}
	}
	return ""
}

// noted judges .note.dlopen, by which an object says itself what it may load.
func (c *check) noted(o *object.Object, f *File) {
	for _, n := range o.Dlopen {
		bad := ""
		for _, name := range n.Sonames {
			if bad = c.reach(o, f, name); bad == "" {
				break
			}
		}
		switch {
		case bad == "":
		case n.Priority == "required":
			r := c.fails("dlopen", "%s says that it loads %s (%s, required): %s", path.Base(f.Path),
				strings.Join(n.Sonames, " or "), n.Feature, bad)
			r.By, r.Library, r.When = f.Name, strings.Join(n.Sonames, " "), atCall
		default:
			r := c.remark("dlopen", "%s can do without %s (%s, %s): %s", path.Base(f.Path),
				strings.Join(n.Sonames, " or "), n.Feature, n.Priority, bad)
			r.By, r.Library, r.When = f.Name, strings.Join(n.Sonames, " "), atCall
		}
	}
}

// loads judges libraries that an object is known to load by name.
func (c *check) loads(o *object.Object, f *File, names []string, how string) {
	for _, name := range names {
		bad := c.reach(o, f, name)
		if bad != "" && path.IsAbs(name) && c.reach(o, f, path.Base(name)) == "" {
			continue // in another folder here
		}
		if bad == "" {
			c.unbound(o, f, name)
			continue
		}
		r := c.fails("dlopen", how+": %s", path.Base(f.Path), name, bad)
		r.By, r.Library, r.When = f.Name, name, atCall
		r.way("add %s to the artifact", path.Base(name))
	}
}

// reach loads a library as an object would by dlopen, and says what is in the way. Its
// symbols may come from the program, and aren't looked at.
func (c *check) reach(o *object.Object, f *File, name string) string {
	for _, p := range c.opening(o, f, name).Problems {
		switch {
		case p.Harmless || p.Later || p.Kind == loader.MissingSymbol:
		case p.Kind == loader.MissingLibrary && p.Library == name:
			return c.Name + " has none"
		case p.Kind == loader.MissingLibrary:
			return "it needs " + p.Library + ", which " + c.Name + " hasn't"
		case p.Kind == loader.MissingVersion:
			return "it needs " + p.Version + " of " + p.Library + ", which " + c.Name + " hasn't"
		default:
			return strings.TrimSpace(p.Bad + " " + p.Reason)
		}
	}
	return ""
}

// opening is what comes of loading a library by its name alone.
func (c *check) opening(o *object.Object, f *File, name string) *loader.Result {
	asking := &object.Object{Class: o.Class, Data: o.Data, OSABI: o.OSABI, Machine: o.Machine, Flags: o.Flags,
		Type: o.Type, Interp: o.Interp, Dynamic: true, Needed: []string{name}, RPath: o.RPath, RunPath: o.RunPath}
	return c.load(loader.Program{Path: f.Path, Object: asking})
}

// unbound tells of a symbol that a declared library needs at once, and that neither it
// brings nor the program has. One that is loaded by name before it may have it; a trial
// would have told.
func (c *check) unbound(o *object.Object, f *File, name string) {
	if c.set.Declared == nil {
		return
	}
	for _, p := range c.opening(o, f, name).Problems {
		has := func(m *loader.Mapped) bool { return exports(m.Object, p.Symbol) }
		if p.Kind != loader.MissingSymbol || p.Harmless || p.Later || slices.ContainsFunc(c.loaded, has) {
			continue
		}
		r := c.unproven("dlopen", "stead.toml says that %s loads %s, which needs %s: nothing that %s loads before has it",
			path.Base(f.Path), name, p.Symbol, c.name)
		r.By, r.Library, r.Symbol, r.When = f.Name, name, p.Symbol, atCall
		return
	}
}

// unchanged tells whether a file is the very one that the target has at its place.
func (c *check) unchanged(o *object.Object, f *File) bool {
	there, ok := c.System.Find(f.Path)
	if !ok || there.Object == nil {
		return false
	}
	if o == nil {
		line := f.firstLine()
		return line != "" && there.Script != nil && there.Script() == line
	}
	theirs, err := there.Object()
	return err == nil && (theirs == o || theirs.Soname == o.Soname && len(theirs.Imports) == len(o.Imports) &&
		len(theirs.Exports) == len(o.Exports) && bytes.Equal(theirs.AppendRecord(nil), o.AppendRecord(nil)))
}

// packaged tells whether a file of the target is there with what it needs: a package
// brought it, or it is where packages put theirs.
func (c *check) packaged(f *File) bool {
	there, ok := c.System.Find(f.Path)
	if !ok || there.Package != "" {
		return ok
	}
	for _, dir := range []string{"/usr/bin/", "/usr/sbin/", "/usr/lib", "/usr/games/", "/bin/", "/sbin/", "/lib"} {
		if strings.HasPrefix(there.Path, dir) {
			return true
		}
	}
	return false
}

// imports tells whether an object takes a symbol from others.
func imports(o *object.Object, name string) bool {
	_, ok := slices.BinarySearchFunc(o.Imports, name, func(im object.Import, name string) int {
		return strings.Compare(im.Name, name)
	})
	return ok
}

// exports tells whether others can bind to a symbol of an object.
func exports(o *object.Object, name string) bool { return len(o.Named(name)) > 0 }
