"""The smallest bot: it repeats what people write to it."""

from messaging.client.bot import Bot

bot = Bot("echo")


@bot.command("start", help="says hello")
async def start(message):
    await message.reply("Hello! I repeat what you write.")


@bot.message()
async def echo(message):
    await message.reply(message.text)


bot.run()
