import time
async def test_t(relays, peer_of):
    settings = await relays.settings("postgresql")
    here, there = peer_of(await relays.serve(settings)), peer_of(await relays.serve(settings))
    alice=await here.register()
    from tests.devices import Device
    async with Device(there, alice.known, alice.aci, alice.pni).socket() as socket:
        await socket.queue_empty()
    t=time.time(); await relays.stop(); print("STOP", time.time()-t)
    t=time.time(); await relays.stack.aclose(); print("CLOSE", time.time()-t)
