"""A project that misuses the public API. It is not run: a type checker finds the lines marked."""

import workq

client = workq.Client("workq://127.0.0.1:9922")
client.add()  # wrong
client.add(b"resize")  # wrong
client.add("resize", b"photo.jpg", 30)  # wrong
client.add("resize", b"photo.jpg", ttr="30")  # wrong
client.add("resize", b"photo.jpg", tttr=30)  # wrong
client.schedule("resize", b"photo.jpg")  # wrong
client.lease(timeout="5")  # wrong
client.complete(client.lease("resize"))  # wrong
print(client.run("resize").resullt)  # wrong
client.no_such_method()  # wrong
workq.Client(codec="xml")  # wrong
workq.Clientt()  # wrong
workq.Worker(codec=str)  # wrong
workq.Worker().job("resize", concurrency="8")  # wrong


async def produce(async_client: workq.AsyncClient) -> str:
    await async_client.add(ttl=30)  # wrong
    return async_client.add("resize")  # wrong
