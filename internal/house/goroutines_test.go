package house

import (
	"go/ast"
	"testing"
)

// production is the code that a klink runs in a cluster.
var production = []string{
	"admin", "replicator", "router", "proxy", "protocol", "cmd",
	"internal/config", "internal/jsonbound", "internal/kafkaclient", "telemetry",
	"internal/credentials", "internal/follow", "internal/gate", "internal/principal", "internal/sasllogin", "internal/saslserver",
}

// goroutines are the functions that may have a go statement, one each, and who ends it or waits
// for it. Everybody else uses sync.WaitGroup.Go, errgroup or Replicator.spawn, which all wait
// by construction.
var goroutines = map[string]string{
	"admin.taskRunner.run": "one for each link; run closes with its channel done, before the link's next one begins",

	"cmd/klink.demo.serve":   "stop cancels it and waits for its result",
	"cmd/klink.ending.watch": "the function that watch returns cancels it and waits for it",
	"cmd/klink.main":         "gives the signals back to the runtime; ends with the process",
	"cmd/klink.app.produce":  "may be blocked in a read of the standard input, which nothing ends; the process ends soon",

	"telemetry.Serve": "Shutdown ends it and waits for done",

	"proxy.Proxy.collect": "debug.FreeOSMemory takes a while, touches nothing of the proxy, and ends by itself",
	"proxy.newWaiter":     "ends when the queue is closed; close waits for done",
	"proxy.waitFor":       "waits for a WaitGroup with a time-out; when that is over it stays until the group is done",

	"replicator.owner.drop": "o.mu is held here and is a leaf; told waits for it. A timer may call drop when spawn may not be called any more",
	"replicator.source.metadata": "the client may take longer than the context, while it connects to a silent broker, and a drain must not wait for that; " +
		"the client's own time-outs end it",
}

func TestGoroutines(t *testing.T) {
	used := map[string]bool{}
	for _, f := range repository(t) {
		if f.test() || !f.under(production...) {
			continue
		}
		for _, d := range f.ast.Decls {
			name := f.dir() + "." + declared(d)
			ast.Inspect(d, func(n ast.Node) bool {
				g, ok := n.(*ast.GoStmt)
				if !ok {
					return true
				}
				switch {
				case goroutines[name] == "":
					t.Errorf("%s:%d: a go statement in %s: who waits for the goroutine? Use sync.WaitGroup.Go, errgroup or Replicator.spawn, "+
						"or say in the table of this test why not", f.path, f.line(g.Pos()), name)
				case used[name]:
					t.Errorf("%s:%d: a second go statement in %s: the table of this test allows one", f.path, f.line(g.Pos()), name)
				}
				used[name] = true
				return true
			})
		}
	}
	for name := range goroutines {
		if !used[name] {
			t.Errorf("%s has no go statement any more: remove it from the table of this test", name)
		}
	}
}

// declared returns the name of a function, as Function or Type.Method; "init" for anything else.
func declared(d ast.Decl) string {
	f, ok := d.(*ast.FuncDecl)
	if !ok {
		return "init"
	}
	if f.Recv == nil || len(f.Recv.List) == 0 {
		return f.Name.Name
	}
	of := f.Recv.List[0].Type
	for {
		switch x := of.(type) {
		case *ast.StarExpr:
			of = x.X
		case *ast.IndexExpr:
			of = x.X
		case *ast.IndexListExpr:
			of = x.X
		case *ast.Ident:
			return x.Name + "." + f.Name.Name
		default:
			return f.Name.Name
		}
	}
}
