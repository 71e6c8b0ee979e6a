class DeadLetterQueue:
    def __init__(self, *a):
        pass

    async def connect(self):
        pass

    async def write(self, f):
        print("DLQ", f[0])

    async def close(self):
        pass
