package daemon_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// A sleep in real time is too short on a busy machine and too long on every other one.
// Tests sleep in synctest bubbles, in functions and methods that only bubbles use, or the
// line says why they cannot: "real time: ...".
func TestTestsDoNotSleepInRealTime(t *testing.T) {
	packages := map[string][]source{}
	for _, s := range sources(t) {
		if s.isTest() {
			packages[s.pkg] = append(packages[s.pkg], s)
		}
	}
	sleeps := 0
	for _, tests := range packages {
		real, all := realSleeps(tests)
		sleeps += all
		for _, at := range real {
			t.Errorf("%s: time.Sleep in real time", at)
		}
	}
	if sleeps < 50 {
		t.Errorf("only %d sleeps found: does this test still see them?", sleeps)
	}
}

func TestRealSleeps_SeesEachWayToSleep(t *testing.T) {
	const bubble = `func TestBubble(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(); new(fake).wait() }) }`
	for name, c := range map[string]struct {
		text string
		real int
	}{
		"in a test":                      {`func TestX(t *testing.T) { time.Sleep(1) }`, 1},
		"beside a bubble":                {`func TestX(t *testing.T) { synctest.Test(t, func(t *testing.T) {}); time.Sleep(1) }`, 1},
		"in a bubble":                    {`func TestX(t *testing.T) { synctest.Test(t, func(t *testing.T) { time.Sleep(1) }) }`, 0},
		"in a runner's bubble":           {`func TestX(t *testing.T) { in(t, func() { time.Sleep(1) }) }; func in(t *testing.T, f func()) { synctest.Test(t, func(t *testing.T) { f() }) }`, 0},
		"in a helper of a test":          {bubble + `; func TestX(t *testing.T) { f() }; func f() { time.Sleep(1) }`, 1},
		"in a helper of a helper":        {bubble + `; func TestX(t *testing.T) { g() }; func g() { f() }; func f() { time.Sleep(1) }`, 1},
		"in a helper of bubbles":         {bubble + `; func f() { time.Sleep(1) }`, 0},
		"in a method":                    {`type fake struct{}; func (f *fake) wait() { time.Sleep(1) }; func TestX(t *testing.T) { use(&fake{}) }`, 1},
		"in a method of a list":          {`type fake struct{}; func (f fake) wait() { time.Sleep(1) }; func TestX(t *testing.T) { use([]fake{{}}) }`, 1},
		"in a method of a parameter":     {bubble + `; type fake struct{}; func (f *fake) wait() { time.Sleep(1) }; func TestX(t *testing.T) { use(func(f *fake) {}) }`, 0},
		"in a method by a constructor":   {`type fake struct{}; func (f *fake) wait() { time.Sleep(1) }; func newFake() *fake { return new(fake) }; func TestX(t *testing.T) { use(newFake()) }`, 1},
		"in a helper of a method":        {`type fake struct{}; func (f *fake) wait() { g() }; func g() { time.Sleep(1) }; func TestX(t *testing.T) { use(&fake{}) }`, 1},
		"in a method that waits":         {`type fake struct{}; func (f fake) wait() { time.Sleep(1); synctest.Wait() }; func TestX(t *testing.T) { use(fake{}) }`, 0},
		"in a method of bubbles":         {bubble + `; type fake struct{}; func (f *fake) wait() { time.Sleep(1) }`, 0},
		"in a variable":                  {`var wait = func() { time.Sleep(1) }; func TestX(t *testing.T) { wait() }`, 1},
		"by its value":                   {`func TestX(t *testing.T) { use(time.Sleep) }`, 1},
		"with a reason":                  {"func TestX(t *testing.T) {\n\ttime.Sleep(1) // real time: a file's mtime\n}", 0},
		"with a reason of the line next": {"func TestX(t *testing.T) {\n\ttime.Sleep(1)\n\t// real time: this\n}", 1},
	} {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, "x_test.go", "package x\n\n"+c.text+"\n", parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if real, all := realSleeps([]source{{"x_test.go", "x", file, fset}}); len(real) != c.real || all != 1 {
			t.Errorf("%s: %d of %d sleeps are reported, want %d of 1", name, len(real), all, c.real)
		}
	}
}

// realSleeps returns where the tests of one package mention time.Sleep in real time, and
// how often they mention it at all.
func realSleeps(tests []source) (real []token.Position, all int) {
	outside := outsideBubbles(tests)
	for _, s := range tests {
		bubbles := bubblesOf(s, tests)
		for _, decl := range s.file.Decls {
			inBubble := waits(decl, bubbles)
			ast.Inspect(decl, func(n ast.Node) bool {
				if !isSelector(n, "time", "Sleep") {
					return true
				}
				all++
				if outside[nameOf(decl)] && !inBubble && !bubbles.hold(n.Pos()) && !s.says(n.Pos(), "real time: ") {
					real = append(real, s.fset.Position(n.Pos()))
				}
				return true
			})
		}
	}
	return real, all
}

// spans are ranges of a file.
type spans [][2]token.Pos

func (s spans) hold(pos token.Pos) bool {
	return slices.ContainsFunc(s, func(r [2]token.Pos) bool { return r[0] <= pos && pos < r[1] })
}

// bubblesOf returns the functions of a file that run in a bubble: those given to
// synctest.Test, or to a function of the package that gives its own to it.
func bubblesOf(s source, tests []source) (found spans) {
	runners := map[string]bool{}
	for _, other := range tests {
		eachCall(other.file, func(in string, call *ast.CallExpr) {
			if isSelector(call.Fun, "synctest", "Test") && !isTestName(in) {
				runners[in] = true
			}
		})
	}
	eachCall(s.file, func(_ string, call *ast.CallExpr) {
		if !isSelector(call.Fun, "synctest", "Test") && !runners[calledName(call)] {
			return
		}
		for _, arg := range call.Args {
			found = append(found, [2]token.Pos{arg.Pos(), arg.End()})
		}
	})
	return found
}

// outsideBubbles returns the declarations of a package's tests, by name, that are used in
// real time: the tests, and what one that is used in real time names outside of bubbles.
// A type stands for its methods, and is used by who makes a value of it.
func outsideBubbles(tests []source) map[string]bool {
	names := map[string][]string{} // in a declaration, outside of its bubbles
	real := map[string]bool{}
	types := typesOf(tests)
	for _, s := range tests {
		bubbles, made := bubblesOf(s, tests), madeIn(s.file)
		for _, decl := range s.file.Decls {
			name := nameOf(decl)
			real[name] = real[name] || isTestName(name)
			var look func(ast.Node) bool
			look = func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok { // a field, or another package's
					ast.Inspect(sel.X, look)
					return false
				}
				id, ok := n.(*ast.Ident)
				local := ok && id.Obj != nil && id.Obj.Kind == ast.Var && id.Obj.Pos() >= decl.Pos() && id.Obj.Pos() < decl.End()
				if ok && !local && !bubbles.hold(id.Pos()) && (!types[id.Name] || made.hold(id.Pos())) {
					names[name] = append(names[name], id.Name)
				}
				return true
			}
			if !waits(decl, bubbles) {
				ast.Inspect(decl, look)
			}
		}
	}
	for grew := true; grew; {
		grew = false
		for by, named := range names {
			for _, name := range named {
				if known, ok := real[name]; ok && real[by] && !known {
					real[name], grew = true, true
				}
			}
		}
	}
	return real
}

// waits reports whether a function calls synctest.Wait, which panics outside of a bubble.
func waits(decl ast.Decl, bubbles spans) (found bool) {
	ast.Inspect(decl, func(n ast.Node) bool {
		found = found || isSelector(n, "synctest", "Wait") && !bubbles.hold(n.Pos())
		return true
	})
	return found
}

func typesOf(tests []source) map[string]bool {
	types := map[string]bool{}
	for _, s := range tests {
		ast.Inspect(s.file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				types[spec.Name.Name] = true
			}
			return true
		})
	}
	return types
}

// madeIn returns where a file names the types of the values that it makes.
func madeIn(file *ast.File) (found spans) {
	ast.Inspect(file, func(n ast.Node) bool {
		var made ast.Expr
		switch n := n.(type) {
		case *ast.CompositeLit:
			made = n.Type
		case *ast.ValueSpec:
			made = n.Type
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "new" || id.Name == "make") {
				made = n.Args[0]
			}
		}
		if id := element(made); id != nil {
			found = append(found, [2]token.Pos{id.Pos(), id.End()})
		}
		return true
	})
	return found
}

// element returns the name of the type of which a type expression is a value, or a list.
func element(typ ast.Expr) *ast.Ident {
	switch typ := typ.(type) {
	case *ast.Ident:
		return typ
	case *ast.StarExpr:
		return element(typ.X)
	case *ast.ArrayType:
		return element(typ.Elt)
	case *ast.MapType:
		return element(typ.Value)
	}
	return nil
}

// nameOf returns the name of a function, of a method's type, or of the first type or
// variable of a declaration.
func nameOf(decl ast.Decl) (name string) {
	if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
		return f.Name.Name
	} else if ok {
		decl = &ast.GenDecl{Specs: []ast.Spec{&ast.ValueSpec{Type: f.Recv.List[0].Type}}}
	}
	ast.Inspect(decl, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && name == "" {
			name = id.Name
		}
		return name == ""
	})
	return name
}

// says reports whether a comment in the line of pos begins with words.
func (s source) says(pos token.Pos, words string) bool {
	line := s.fset.Position(pos).Line
	return slices.ContainsFunc(s.file.Comments, func(c *ast.CommentGroup) bool {
		return s.fset.Position(c.Pos()).Line == line && strings.HasPrefix(c.Text(), words)
	})
}

func isTestName(name string) bool {
	for _, prefix := range []string{"Test", "Fuzz", "Benchmark", "Example"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// eachCall calls f with every call in a file, and the name of the declaration it is in.
func eachCall(file *ast.File, f func(in string, call *ast.CallExpr)) {
	for _, decl := range file.Decls {
		in := nameOf(decl)
		ast.Inspect(decl, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				f(in, call)
			}
			return true
		})
	}
}

func calledName(call *ast.CallExpr) string {
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		return fun.Name
	case *ast.SelectorExpr:
		return fun.Sel.Name
	}
	return ""
}

// isSelector reports whether a node is pkg.name.
func isSelector(n ast.Node, pkg, name string) bool {
	sel, ok := n.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	id, ok := sel.X.(*ast.Ident)
	return ok && id.Name == pkg
}
